"""The variants of the model repository are read from their folders."""

import shutil
from pathlib import Path

import pytest

from musicgen_engine.repository import Repository

MODELS = Path(__file__).parents[2] / "model_repository"


def test_every_variant_is_listed_but_not_the_front() -> None:
    variants = {variant.name: variant for variant in Repository(MODELS).variants()}
    assert len(variants) == 7
    assert variants["musicgen-tiny"].weights == "bundled"
    assert variants["musicgen-tiny"].checkpoint is None
    assert variants["musicgen-small"].checkpoint == "facebook/musicgen-small"
    assert variants["musicgen-small"].license == "CC-BY-NC-4.0"
    large, tiny = variants["musicgen-stereo-large"], variants["musicgen-tiny"]
    assert (large.size, large.channels) == ("3.3B", "stereo")
    assert (tiny.size, tiny.channels) == ("4M", "mono")


def test_a_broken_folder_does_not_hide_the_others(tmp_path: Path) -> None:
    shutil.copytree(MODELS / "musicgen-small", tmp_path / "good")
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "config.pbtxt").write_text('backend: "python')
    assert [variant.name for variant in Repository(tmp_path).variants()] == ["good"]


@pytest.mark.parametrize("checkpoint", ["facebook/musicgen--small", "models--facebook--x", "a/b."])
def test_a_checkpoint_that_cannot_exist_is_missing(tmp_path: Path, checkpoint: str) -> None:
    shutil.copytree(MODELS / "musicgen-small", tmp_path / "good")
    config = (tmp_path / "good" / "config.pbtxt").read_text()
    (tmp_path / "odd").mkdir()
    odd = config.replace("facebook/musicgen-small", checkpoint)
    (tmp_path / "odd" / "config.pbtxt").write_text(odd)
    variants = {variant.name: variant for variant in Repository(tmp_path).variants()}
    assert variants.keys() == {"good", "odd"}
    assert (variants["odd"].checkpoint, variants["odd"].weights) == (checkpoint, "missing")
