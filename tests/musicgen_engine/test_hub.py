"""Checkpoints from folders, the cache and the hub.

The hub client reads its environment when it is imported: each fetch is a process of its own.
"""

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

from musicgen_engine import hub
from protocol.errors import WeightsMissing
from tests.conftest import ROOT
from tests.fake_hub import FakeHub, Mode, environment, refused
from tests.musicgen_engine.core.reference import write_separator

TINY = ROOT / "model_repository" / "musicgen-tiny" / "1"
SMALL = "facebook/musicgen-small"
SCRIPT = """
import json, sys
from pathlib import Path
from musicgen_engine import hub
from protocol.errors import WeightsMissing

checkpoint = hub.resolve(sys.argv[1] or None, Path(sys.argv[2]))
before, progress, folder, error = hub.is_cached(checkpoint), [], None, None
try:
    folder = str(hub.fetch(checkpoint, lambda *bytes: progress.append(bytes)))
except WeightsMissing as missing:
    error = missing.message
after, torch = hub.is_cached(checkpoint), "torch" in sys.modules
print(json.dumps([before, after, progress, folder, error, torch]))
"""


@dataclass
class Fetched:
    before: str
    after: str
    progress: list[list[int | None]]
    folder: str | None
    error: str | None
    torch: bool


def fetch(variables: dict[str, str], checkpoint: str = SMALL, version: Path = Path()) -> Fetched:
    result = subprocess.run(
        [sys.executable, "-c", SCRIPT, checkpoint, str(version)],
        cwd=ROOT, env={**os.environ, **variables}, check=True, stdout=subprocess.PIPE,
    )  # fmt: skip
    return Fetched(*json.loads(result.stdout))


def fake_hub(**repos: Path) -> FakeHub:
    return FakeHub({SMALL: TINY, "t5-small": TINY / "t5-small", **repos})


def test_a_checkpoint_is_a_folder_or_a_repository(tmp_path: Path) -> None:
    version = tmp_path / "1"
    (version / "mine").mkdir(parents=True)
    assert hub.resolve(None, version) == version
    assert hub.resolve("mine", version) == version / "mine"
    assert hub.resolve("../other", version) == version / "../other"
    assert hub.resolve(str(tmp_path), version) == tmp_path
    assert hub.resolve(SMALL, version) == SMALL


def test_other_weights_have_another_revision(tmp_path: Path, stereo_checkpoint: Path) -> None:
    copy = shutil.copytree(TINY, tmp_path / "copy")
    assert hub.revision(copy) == hub.revision(TINY)
    assert len(hub.revision(TINY)) == 12
    assert hub.revision(stereo_checkpoint) != hub.revision(TINY)
    shutil.copy(stereo_checkpoint / hub.CODEC, copy)
    assert hub.revision(copy) != hub.revision(TINY)


def test_the_revision_covers_the_separator_of_a_melody_model(
    tmp_path: Path, melody_checkpoint: Path
) -> None:
    """And of no other model. The download ahead of the first request gets it."""
    models, folder = tmp_path / "models", tmp_path / "hub"
    for name, checkpoint in (("melody", melody_checkpoint), ("plain", TINY)):
        shutil.copytree(checkpoint, models / name / "1")
        (models / name / "config.pbtxt").write_text("")
    (folder / "mine").mkdir(parents=True)
    file = write_separator(folder / "mine" / hub.SEPARATOR.name)
    revisions = [revision_in(tmp_path / "empty", models)]
    for cache in ("first", "second"):
        with FakeHub({hub.SEPARATOR.repo: file.parent}) as there:
            variables = {**there.environment(tmp_path / cache), "MODEL_REPOSITORY": str(models)}
            done = download("melody", "plain", **variables)
        assert done.returncode == 0, done.stderr
        revisions.append(revision_in(tmp_path / cache, models))
        file.write_bytes(file.read_bytes() + b"\0")
    melody, plain = zip(*revisions, strict=True)
    assert len({*melody}) == 3 and len({*plain}) == 1


def revision_in(cache: Path, models: Path) -> list[str]:
    """The revisions of both models, in a process whose hub's cache this is."""
    code = "import sys; from pathlib import Path; from musicgen_engine.hub import revision\n"
    code += "for folder in sys.argv[1:]: print(revision(Path(folder)))"
    folders = [str(models / name / "1") for name in ("melody", "plain")]
    result = subprocess.run(
        [sys.executable, "-c", code, *folders],
        cwd=ROOT, env={**os.environ, **environment(refused(), cache)}, check=True,
        stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    return result.stdout.split()


def test_a_bundled_checkpoint_needs_no_hub() -> None:
    fetched = fetch({"HF_ENDPOINT": refused()}, "", TINY)
    assert (fetched.before, fetched.folder, fetched.progress) == ("bundled", str(TINY), [])
    assert not fetched.torch  # the stubs ask, too


def test_a_checkpoint_comes_from_the_hub_once_with_progress(tmp_path: Path) -> None:
    with fake_hub() as there:
        first = fetch(there.environment(tmp_path))
        assert there.downloads
        there.requests.clear()
        second = fetch(there.environment(tmp_path))
        assert there.requests == []
    assert (first.before, first.after) == ("missing", "cached")
    done = [done or 0 for done, _ in first.progress]
    files = ["state_dict.bin", "compression_state_dict.bin"]
    files += [f"t5-small/{name}" for name in ("config.json", "tokenizer.json", "model.safetensors")]
    size = sum((TINY / file).stat().st_size for file in files)
    assert done == sorted(done)
    assert first.progress[-1] == [size, size]
    assert second.before == "cached"
    assert second.folder == first.folder
    assert not second.progress
    assert first.folder is not None
    assert Path(first.folder).is_relative_to(tmp_path / "audiocraft")


def test_a_downloaded_checkpoint_generates_without_the_hub(tmp_path: Path) -> None:
    with fake_hub() as there:
        folder = fetch(there.environment(tmp_path)).folder
    script = (
        "import sys; from pathlib import Path;"
        "from musicgen_engine.core.loaded_model import LoadedModel;"
        "from musicgen_engine.config import ModelConfig;"
        "from protocol.request import GenerationRequest;"
        "from tests.musicgen_engine.core.harness import generate;"
        "model = LoadedModel.load(Path(sys.argv[1]), ModelConfig(device='cpu'));"
        "print(generate(model, GenerationRequest('jazz', 5, seed=1)).audio.shape)"
    )
    command = [sys.executable, "-c", script, str(folder)]
    variables = {**os.environ, **environment(refused(), tmp_path), "PYTHONPATH": str(ROOT)}
    result = subprocess.run(command, env=variables, check=True, stdout=subprocess.PIPE, text=True)
    assert result.stdout == "(1, 3200)\n"


def test_the_codec_that_a_checkpoint_names_is_downloaded(tmp_path: Path) -> None:
    checkpoint, codec = tmp_path / "checkpoint", tmp_path / "codec"
    shutil.copytree(TINY, checkpoint)
    reference = {"pretrained": "facebook/encodec_32khz", "exported": True, "version": "1.3.0"}
    torch.save(reference, checkpoint / "compression_state_dict.bin")
    codec.mkdir()
    for name in ("config.json", "model.safetensors"):
        (codec / name).write_text(name)
    with FakeHub({SMALL: checkpoint, "facebook/encodec_32khz": codec}) as there:
        there.repos["t5-small"] = TINY / "t5-small"
        assert fetch(there.environment(tmp_path)).after == "cached"
    assert any("encodec_32khz/resolve/main/model.safetensors" in path for path in there.downloads)


@pytest.mark.parametrize(
    ("mode", "reason"),
    [
        ("hang", "cannot be reached: no answer within 6 s."),
        ("gated", "HF_TOKEN"),
        ("error", "answers with status 503"),
    ],
)
def test_a_hub_that_fails_is_reported_with_the_cause(
    tmp_path: Path, mode: Mode, reason: str
) -> None:
    with fake_hub() as there:
        there.mode = mode
        fetched = fetch(there.environment(tmp_path))
    assert fetched.error
    assert SMALL in fetched.error
    assert reason in fetched.error
    assert str(tmp_path) not in fetched.error


def test_a_hub_that_is_down_is_named_with_cause_and_remedy(tmp_path: Path) -> None:
    address = refused()
    error = fetch(environment(address.replace("//", "//name:password@"), tmp_path)).error
    assert error
    assert f"the hub at {address} cannot be reached: Connection refused." in error
    for part in (SMALL, "internet", "HF_ENDPOINT", "AUDIOCRAFT_CACHE_DIR", "HF_HOME"):
        assert part in error
    assert "password" not in error


def test_offline_mode_is_reported(tmp_path: Path) -> None:
    with fake_hub() as there:
        error = fetch({**there.environment(tmp_path), "HF_HUB_OFFLINE": "1"}).error
    assert error
    assert "HF_HUB_OFFLINE" in error
    assert there.requests == []


def test_an_unknown_repository_is_not_one_without_a_musicgen(tmp_path: Path) -> None:
    with fake_hub() as there:
        unknown = fetch(there.environment(tmp_path), "facebook/nothing").error
        other = fetch(there.environment(tmp_path), "t5-small").error
    assert unknown
    assert "no such repository" in unknown
    assert other
    assert "audiocraft's format" in other


def test_a_cache_that_cannot_be_written_is_reported(tmp_path: Path) -> None:
    (tmp_path / "audiocraft").write_text("not a folder")
    with fake_hub() as there:
        error = fetch(there.environment(tmp_path)).error
    assert error
    assert "cache cannot be written" in error
    assert str(tmp_path) not in error


def test_a_broken_download_resumes_with_the_same_file(tmp_path: Path) -> None:
    t5 = tmp_path / "t5"
    t5.mkdir()
    with fake_hub(**{"t5-small": t5}) as there:  # the text encoder is missing
        broken = fetch(there.environment(tmp_path))
        there.repos["t5-small"] = TINY / "t5-small"
        there.requests.clear()
        assert fetch(there.environment(tmp_path)).after == "cached"
        assert not any("state_dict.bin" in path for path in there.downloads)
    assert broken.error
    assert "t5-small" in broken.error
    assert broken.after == "missing"


def test_a_broken_connection_does_not_stop_the_next_one(tmp_path: Path) -> None:
    with fake_hub() as there:
        there.mode = "broken"
        broken = fetch(there.environment(tmp_path))
        there.mode = "serve"
        assert fetch(there.environment(tmp_path)).after == "cached"
    assert broken.error
    assert "broke off" in broken.error
    assert broken.after == "missing"


def test_only_old_parts_of_killed_downloads_are_removed(
    tmp_path: Path,
) -> None:
    blobs = tmp_path / "audiocraft" / "models--facebook--musicgen-small" / "blobs"
    blobs.mkdir(parents=True)
    old, new = blobs / "a.1.incomplete", blobs / "a.2.incomplete"
    old.touch()
    new.touch()
    os.utime(old, (0, 0))
    with fake_hub() as there:
        fetch(there.environment(tmp_path))
    assert not old.exists()
    assert new.exists()


def test_a_folder_without_weights_is_reported_without_its_path(tmp_path: Path) -> None:
    fetched = fetch({}, "", tmp_path)
    assert fetched.before == "missing"
    assert fetched.error
    assert "state_dict.bin" in fetched.error
    assert str(tmp_path) not in fetched.error


def test_a_broken_file_counts_as_missing(tmp_path: Path) -> None:
    for name in ("state_dict.bin", "compression_state_dict.bin"):
        (tmp_path / name).write_bytes((TINY / name).read_bytes()[:1000])
    fetched = fetch({}, "", tmp_path)
    assert fetched.before == "missing"
    assert fetched.error
    assert "only a part" in fetched.error


@pytest.mark.parametrize("byte", [0x00, 0xF2])
def test_a_file_that_is_damaged_anywhere_breaks_no_list(tmp_path: Path, byte: int) -> None:
    files = [tmp_path / name for name in ("state_dict.bin", "compression_state_dict.bin")]
    for file in files:
        torch.save({"xp.cfg": "", "best_state": {"weight": torch.zeros(3)}}, file)
    whole, found = files[0].read_bytes(), set()
    for place in range(len(whole)):
        files[0].write_bytes(whole[:place] + bytes([byte]) + whole[place + 1 :])
        os.utime(files[0], ns=(place, place))  # another file than the one before
        found.add(hub.is_cached(tmp_path))
    assert found == {"bundled", "missing"}


def test_a_name_that_no_repository_can_have_is_reported(tmp_path: Path) -> None:
    fetched = fetch(environment(refused(), tmp_path), "facebook/musicgen--small")
    assert fetched.before == "missing"
    assert fetched.error and "'facebook/musicgen--small' cannot be" in fetched.error


@contextmanager
def bound_by_permissions() -> Iterator[None]:
    """As another user where this one is root, which may read every file."""
    if root := os.geteuid() == 0:
        os.seteuid(65_534)
    try:
        yield
    finally:
        if root:
            os.seteuid(0)


def test_an_unreadable_file_is_missing_and_reported() -> None:
    assert hub.is_cached(TINY) == "bundled"
    with tempfile.TemporaryDirectory() as name:  # which others may enter, unlike `tmp_path`
        folder = Path(name)
        folder.chmod(0o755)
        for file in (hub.LM, hub.CODEC):
            shutil.copy(TINY / file, folder)
            (folder / file).chmod(0)
        with bound_by_permissions():
            assert hub.is_cached(folder) == "missing"
            with pytest.raises(WeightsMissing, match=r"state_dict\.bin cannot be read"):
                hub.fetch(folder, lambda *_: None)


def download(*models: str, **variables: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "musicgen_engine.download", *models],
        cwd=ROOT, env={**os.environ, **variables}, capture_output=True, text=True,
    )  # fmt: skip


def test_weights_can_be_downloaded_in_advance(tmp_path: Path) -> None:
    with fake_hub() as there:
        variables = there.environment(tmp_path)
        done = download("musicgen-small", **variables)
        assert done.returncode == 0, done.stderr
        assert done.stdout.startswith("musicgen-small: weights under CC-BY-NC-4.0\n")
        assert re.search(r"(\d+) of \1 MB\nmusicgen-small: all here", done.stdout)
        assert fetch(variables).before == "cached"


def test_a_download_of_an_unknown_model_names_the_known_ones(tmp_path: Path) -> None:
    done = download("musicgen-huge")
    assert done.returncode == 1
    assert done.stderr.startswith("MODEL=musicgen-huge is wrong: give one of musicgen-large, ")
    nowhere = download("musicgen-small", MODEL_REPOSITORY=str(tmp_path / "none"))
    assert nowhere.returncode == 1
    assert re.fullmatch(r"MODEL_REPOSITORY=\S+ is wrong: give a folder .+ read\n", nowhere.stderr)
    without = download("musicgen-small", **environment(refused(), tmp_path))
    assert without.returncode == 1 and "cannot be reached" in without.stderr
