"""The variants of the model repository are read from their folders."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from musicgen_engine.repository import Repository

MODELS = Path(__file__).parents[2] / "model_repository"
CONFIG = (MODELS / "musicgen-small" / "config.pbtxt").read_text()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A repository with the front and one good variant."""
    shutil.copytree(MODELS / "musicgen", tmp_path / "models" / "musicgen")
    shutil.copytree(MODELS / "musicgen-small", tmp_path / "models" / "good")
    return tmp_path / "models"


@pytest.fixture
def links(tmp_path: Path) -> Path:
    """Triton's folder, as the supervisor leaves it."""
    (tmp_path / "links").mkdir()
    (tmp_path / "links" / "musicgen").symlink_to(MODELS / "musicgen")
    return tmp_path / "links"


def add(folder: Path, name: str, config: str = CONFIG) -> None:
    (folder / name).mkdir()
    (folder / name / "config.pbtxt").write_text(config, "utf-8")


def test_every_variant_is_listed_but_not_the_front(links: Path) -> None:
    variants = {variant.name: variant for variant in Repository(MODELS, links).variants()}
    assert len(variants) == 12
    assert variants["musicgen-tiny"].weights == "bundled"
    assert variants["musicgen-tiny"].checkpoint is None
    assert variants["musicgen-tiny-melody"].weights == "bundled"
    assert variants["musicgen-small"].checkpoint == "facebook/musicgen-small"
    assert variants["musicgen-small"].license == "CC-BY-NC-4.0"
    large, tiny = variants["musicgen-stereo-large"], variants["musicgen-tiny"]
    assert (large.size, large.channels) == ("3.3B", "stereo")
    assert (tiny.size, tiny.channels) == ("4M", "mono")
    assert (large.download, tiny.download) == (8_000_000_000, None)
    taking = {name for name, variant in variants.items() if variant.melody}
    assert taking == {name for name in variants if "melody" in name} and len(taking) == 5


def broken_config(folder: Path) -> None:
    add(folder, "bad", 'backend: "python')


def download_in_words(folder: Path) -> None:
    add(folder, "bad", CONFIG.replace("2000000000", "2 GB"))


def link_to_nothing(folder: Path) -> None:
    (folder / "bad").symlink_to(folder / "nothing")


def link_to_itself(folder: Path) -> None:
    (folder / "bad").symlink_to(folder / "bad")


def config_that_links_to_nothing(folder: Path) -> None:
    (folder / "bad").mkdir()
    (folder / "bad" / "config.pbtxt").symlink_to(folder / "nothing")


@pytest.mark.parametrize(
    "spoil",
    [
        broken_config,
        download_in_words,
        link_to_nothing,
        link_to_itself,
        config_that_links_to_nothing,
    ],
)
def test_a_bad_folder_is_left_out_and_logged_once(
    folder: Path, links: Path, caplog: pytest.LogCaptureFixture, spoil: Callable[[Path], None]
) -> None:
    spoil(folder)
    repository = Repository(folder, links)
    for _ in range(2):
        assert repository.names() == ["good"]
    assert {link.name for link in links.iterdir()} == {"musicgen", "good"}
    [record] = caplog.records
    assert record.getMessage().startswith("'bad' is left out of the models: ")


@pytest.mark.parametrize("name", ["my music", "rock'n'roll", 'the "best"', "a;b", "$x", "-x", "é"])
def test_a_name_that_a_shell_would_change_is_left_out(folder: Path, links: Path, name: str) -> None:
    add(folder, name)
    assert Repository(folder, links).names() == ["good"]


def test_a_config_may_hold_any_letters(folder: Path, links: Path) -> None:
    add(folder, "other", f"# Zoë, 作曲\n{CONFIG}".replace("CC-BY-NC-4.0", "für Zoë"))
    assert Repository(folder, links).variants()[1].license == "für Zoë"


def test_folders_that_are_no_models_are_ignored(
    folder: Path, links: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (folder / ".git").mkdir()
    (folder / "README.md").touch()
    assert Repository(folder, links).names() == ["good"]
    assert not caplog.records


def test_links_follow_the_folders(folder: Path, links: Path) -> None:
    repository = Repository(folder, links)
    repository.names()
    (folder / "good").rename(folder / "better")
    assert repository.names() == ["better"]
    assert {link.name for link in links.iterdir()} == {"musicgen", "better"}
    assert (links / "better" / "config.pbtxt").read_text() == CONFIG


@pytest.mark.parametrize("checkpoint", ["facebook/musicgen--small", "models--facebook--x", "a/b."])
def test_a_checkpoint_that_cannot_exist_is_missing(
    folder: Path, links: Path, checkpoint: str
) -> None:
    add(folder, "odd", CONFIG.replace("facebook/musicgen-small", checkpoint))
    variants = {variant.name: variant for variant in Repository(folder, links).variants()}
    assert variants.keys() == {"good", "odd"}
    assert variants["odd"].weights == "missing"


def test_a_folder_of_the_server_is_not_told(folder: Path, links: Path, tmp_path: Path) -> None:
    add(folder, "own", CONFIG.replace("facebook/musicgen-small", str(tmp_path)))
    own, good = sorted(Repository(folder, links).variants(), key=lambda one: one.name != "own")
    assert own.checkpoint is None
    assert good.checkpoint == "facebook/musicgen-small"
