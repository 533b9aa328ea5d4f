"""Checkpoints from folders, the cache and the hub; each look is a process of its own, as in life.

The hub client reads its environment when it is imported.
"""

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

from musicgen_engine import weights
from protocol.errors import WeightsMissing
from tests.conftest import ROOT
from tests.fake_hub import FakeHub, Mode, environment, refused

TINY = ROOT / "model_repository" / "musicgen-tiny" / "1"
SMALL = "facebook/musicgen-small"
SCRIPT = """
import json, sys
from pathlib import Path
from musicgen_engine import weights
from protocol.errors import WeightsMissing

checkpoint = weights.resolve(sys.argv[1] or None, Path(sys.argv[2]))
before, progress, folder, error = weights.is_cached(checkpoint), [], None, None
try:
    folder = str(weights.fetch(checkpoint, lambda *bytes: progress.append(bytes)))
except WeightsMissing as missing:
    error = missing.message
result = [before, weights.is_cached(checkpoint), progress, folder, error, "torch" in sys.modules]
print(json.dumps(result))
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


def hub(**repos: Path) -> FakeHub:
    return FakeHub({SMALL: TINY, "t5-small": TINY / "t5-small", **repos})


def test_what_a_checkpoint_setting_means(tmp_path: Path) -> None:
    version = tmp_path / "1"
    (version / "mine").mkdir(parents=True)
    assert weights.resolve(None, version) == version
    assert weights.resolve("mine", version) == version / "mine"
    assert weights.resolve("../other", version) == version / "../other"
    assert weights.resolve(str(tmp_path), version) == tmp_path
    assert weights.resolve(SMALL, version) == SMALL


def test_other_weights_have_another_revision(tmp_path: Path, stereo_checkpoint: Path) -> None:
    copy = shutil.copytree(TINY, tmp_path / "copy")
    assert weights.revision(copy) == weights.revision(TINY)
    assert len(weights.revision(TINY)) == 12
    assert weights.revision(stereo_checkpoint) != weights.revision(TINY)
    shutil.copy(stereo_checkpoint / weights.CODEC, copy)
    assert weights.revision(copy) != weights.revision(TINY)


def test_a_bundled_checkpoint_needs_no_hub() -> None:
    fetched = fetch({"HF_ENDPOINT": refused()}, "", TINY)
    assert (fetched.before, fetched.folder, fetched.progress) == ("bundled", str(TINY), [])
    assert not fetched.torch  # the stubs ask, too


def test_a_checkpoint_comes_from_the_hub_once_with_progress(tmp_path: Path) -> None:
    with hub() as there:
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


def test_what_came_from_the_hub_makes_music_without_it(tmp_path: Path) -> None:
    with hub() as there:
        folder = fetch(there.environment(tmp_path)).folder
    script = (
        "import sys; from pathlib import Path; from musicgen_engine.core.loaded_model import Model;"
        "from musicgen_engine.config import Placement;"
        "from protocol.request import Song;"
        "from tests.musicgen_engine.core.studio import play;"
        "model = Model.load(Path(sys.argv[1]), Placement(device='cpu'));"
        "print(play(model, Song('jazz', 5, 1)).audio.shape)"
    )
    command = [sys.executable, "-c", script, str(folder)]
    variables = {**os.environ, **environment(refused(), tmp_path), "PYTHONPATH": str(ROOT)}
    result = subprocess.run(command, env=variables, check=True, stdout=subprocess.PIPE, text=True)
    assert result.stdout == "(1, 3200)\n"


def test_a_codec_named_by_the_checkpoint_comes_too(tmp_path: Path) -> None:
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
        ("hang", "cannot be reached"),
        ("gated", "HF_TOKEN"),
        ("error", "status 503"),
    ],
)
def test_a_hub_that_does_not_serve_is_said_within_eight_seconds(
    tmp_path: Path, mode: Mode, reason: str
) -> None:
    with hub() as there:
        there.mode = mode
        began = time.monotonic()
        fetched = fetch(there.environment(tmp_path))
    assert time.monotonic() - began < 8
    assert fetched.error
    assert SMALL in fetched.error
    assert reason in fetched.error
    assert str(tmp_path) not in fetched.error
    assert there.url not in fetched.error


def test_a_hub_that_is_down_is_said_with_the_remedy(tmp_path: Path) -> None:
    error = fetch(environment(refused(), tmp_path)).error
    assert error
    for part in (SMALL, "internet", "HF_ENDPOINT", "AUDIOCRAFT_CACHE_DIR", "HF_HOME"):
        assert part in error


def test_offline_mode_is_said(tmp_path: Path) -> None:
    with hub() as there:
        error = fetch({**there.environment(tmp_path), "HF_HUB_OFFLINE": "1"}).error
    assert error
    assert "HF_HUB_OFFLINE" in error
    assert there.requests == []


def test_an_unknown_repository_and_one_without_a_musicgen_are_told_apart(tmp_path: Path) -> None:
    with hub() as there:
        unknown = fetch(there.environment(tmp_path), "facebook/nothing").error
        other = fetch(there.environment(tmp_path), "t5-small").error
    assert unknown
    assert "no such repository" in unknown
    assert other
    assert "audiocraft's format" in other


def test_a_cache_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    (tmp_path / "audiocraft").write_text("not a folder")
    with hub() as there:
        error = fetch(there.environment(tmp_path)).error
    assert error
    assert "cache cannot be written" in error
    assert str(tmp_path) not in error


def test_a_download_that_broke_off_goes_on_with_the_file_it_broke_off_in(tmp_path: Path) -> None:
    t5 = tmp_path / "t5"
    t5.mkdir()
    with hub(**{"t5-small": t5}) as there:  # the text encoder is not to be had
        broken = fetch(there.environment(tmp_path))
        there.repos["t5-small"] = TINY / "t5-small"
        there.requests.clear()
        assert fetch(there.environment(tmp_path)).after == "cached"
        assert not any("state_dict.bin" in path for path in there.downloads)
    assert broken.error
    assert "t5-small" in broken.error
    assert broken.after == "missing"


def test_a_connection_that_breaks_leaves_nothing_that_is_in_the_way(tmp_path: Path) -> None:
    with hub() as there:
        there.mode = "broken"
        broken = fetch(there.environment(tmp_path))
        there.mode = "serve"
        assert fetch(there.environment(tmp_path)).after == "cached"
    assert broken.error
    assert "broke off" in broken.error
    assert broken.after == "missing"


def test_what_a_killed_download_left_behind_is_removed_but_not_what_is_being_written(
    tmp_path: Path,
) -> None:
    blobs = tmp_path / "audiocraft" / "models--facebook--musicgen-small" / "blobs"
    blobs.mkdir(parents=True)
    old, new = blobs / "a.1.incomplete", blobs / "a.2.incomplete"
    old.touch()
    new.touch()
    os.utime(old, (0, 0))
    with hub() as there:
        fetch(there.environment(tmp_path))
    assert not old.exists()
    assert new.exists()


def test_a_folder_without_weights_is_said_without_its_path(tmp_path: Path) -> None:
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


def test_a_name_that_the_hub_can_have_no_repository_of_is_said(tmp_path: Path) -> None:
    fetched = fetch(environment(refused(), tmp_path), "facebook/musicgen--small")
    assert fetched.before == "missing"
    assert fetched.error and "'facebook/musicgen--small' cannot be" in fetched.error


@contextmanager
def bound_by_permissions() -> Iterator[None]:
    """As another user, where this is the one to whom nothing is forbidden."""
    if root := os.geteuid() == 0:
        os.seteuid(65_534)
    try:
        yield
    finally:
        if root:
            os.seteuid(0)


def test_a_file_that_may_not_be_read_is_missing_and_said() -> None:
    assert weights.is_cached(TINY) == "bundled"
    with tempfile.TemporaryDirectory() as name:  # which others may enter, unlike `tmp_path`
        folder = Path(name)
        folder.chmod(0o755)
        for file in (weights.LM, weights.CODEC):
            shutil.copy(TINY / file, folder)
            (folder / file).chmod(0)
        with bound_by_permissions():
            assert weights.is_cached(folder) == "missing"
            with pytest.raises(WeightsMissing, match=r"state_dict\.bin cannot be read"):
                weights.fetch(folder, lambda *_: None)


def download(*models: str, **variables: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "musicgen_engine.download", *models],
        cwd=ROOT, env={**os.environ, **variables}, capture_output=True, text=True,
    )  # fmt: skip


def test_weights_are_there_before_anybody_asks(tmp_path: Path) -> None:
    with hub() as there:
        variables = there.environment(tmp_path)
        done = download("musicgen-small", **variables)
        assert done.returncode == 0, done.stderr
        assert done.stdout.startswith("musicgen-small: weights under CC-BY-NC-4.0\n")
        assert re.search(r"(\d+) of \1 MB\nmusicgen-small: all here", done.stdout)
        assert fetch(variables).before == "cached"


def test_a_download_of_what_is_not_there_names_what_is(tmp_path: Path) -> None:
    done = download("musicgen-huge")
    assert done.returncode == 1
    assert done.stderr.startswith("MODEL=musicgen-huge is wrong: take of musicgen-large, ")
    without = download("musicgen-small", **environment(refused(), tmp_path))
    assert without.returncode == 1 and "cannot be reached" in without.stderr
