"""The separator: a strict loader, in a process with limits."""

import json
import os
import pickle
import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from demucs.apply import apply_model
from julius.resample import resample_frac
from safetensors.torch import load_file, save_file

from musicgen_engine.core.separator import MAX_MEMORY, NICENESS, RATE, Unusable, load, melody
from musicgen_engine.core.separator_process import SeparatorProcess
from protocol.errors import Cancelled, GenerationFailed, InvalidField
from tests.musicgen_engine.core.reference import SEPARATOR, tiny_separator, write_separator

MIX = np.random.default_rng(1).standard_normal((2, 32_000)).astype(np.float32)
CONFINED = (
    "import sys, os, time; from musicgen_engine.core.separator import confine; "
    "confine(int(sys.argv[-1])); "
)


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_separator(tmp_path_factory.mktemp("separator") / "955717e8.safetensors")


def always() -> bool:
    return True


def script(code: str) -> SeparatorProcess:
    return SeparatorProcess(Path("weights"), [sys.executable, "-c", CONFINED + code])


@pytest.mark.parametrize(
    "samples", [32_000, *(pytest.param(each, marks=pytest.mark.slow) for each in (640, 320_000))]
)
def test_the_melody_is_all_but_drums_and_bass(weights: Path, samples: int) -> None:
    mix = np.resize(MIX, (1, samples))
    wave = resample_frac(torch.from_numpy(mix), 32_000, RATE).expand(1, 2, -1)
    stems = apply_model(tiny_separator(), wave, shifts=0)
    expected = resample_frac(stems[0, 2:].sum(0).mean(0), RATE, 32_000).numpy()
    separated = SeparatorProcess(weights).separate(mix, always)
    assert separated.shape == (1, len(expected)) and np.abs(expected).max() > 0
    assert np.allclose(separated[0], expected, atol=1e-5 * np.abs(expected).max())


def test_silence_stays_silent(weights: Path) -> None:
    assert not melody(load(weights), torch.zeros(1, 32_000)).any()


def another_class(file: Path) -> None:
    write_separator(file, klass="subprocess.Popen", kwargs=json.dumps({"args": ["touch", "ran"]}))


def other_settings(file: Path) -> None:
    write_separator(file, kwargs=json.dumps({**SEPARATOR, "channels": 8}))


def no_vocals(file: Path) -> None:
    write_separator(file, kwargs=json.dumps({**SEPARATOR, "sources": ["a", "b", "c", "d"]}))


def huge(file: Path) -> None:
    write_separator(file, kwargs=json.dumps({**SEPARATOR, "channels": 2**40}))


def other_shapes(file: Path) -> None:
    state = load_file(write_separator(file))
    name = next(iter(state))
    about = {"klass": "demucs.htdemucs.HTDemucs", "args": "[]", "kwargs": json.dumps(SEPARATOR)}
    save_file(state | {name: torch.zeros(3)}, file, about)


def no_metadata(file: Path) -> None:
    save_file(load_file(write_separator(file)), file)


def truncated(file: Path) -> None:
    data = write_separator(file).read_bytes()
    file.write_bytes(data[: len(data) // 2])


def a_pickle(file: Path) -> None:
    file.write_bytes(pickle.dumps(os.getcwd))


@pytest.mark.parametrize(
    ("spoil", "problem"),
    [
        (another_class, "holds another model than"),
        (no_metadata, "holds another model than"),
        (other_settings, "do not fit"),
        (other_shapes, "do not fit"),
        (no_vocals, "do not fit"),
        (huge, "do not fit"),
        (truncated, "is not a file of safetensors, or only a part of one"),
        (a_pickle, "is not a file of safetensors, or only a part of one"),
    ],
)
def test_a_wrong_file_of_weights_is_refused_and_runs_nothing(
    tmp_path: Path, spoil: Callable[[Path], None], problem: str
) -> None:
    os.chdir(tmp_path)
    spoil(file := tmp_path / "file.safetensors")
    with pytest.raises(Unusable, match=problem):
        load(file)
    assert not Path("ran").exists()


def test_what_is_wrong_with_the_weights_reaches_the_client(tmp_path: Path) -> None:
    truncated(file := tmp_path / "file.safetensors")
    with pytest.raises(InvalidField) as error:
        SeparatorProcess(file).separate(MIX, always)
    assert error.value.field == "separate"
    assert "only a part of one; get it again, or send separate: false" in error.value.message
    assert str(tmp_path) not in error.value.message


def test_weights_that_are_not_here_are_named() -> None:
    with pytest.raises(InvalidField, match=r"weights are not here.*or send separate: false"):
        SeparatorProcess(None).check()


def test_an_engine_without_demucs_says_so() -> None:
    code = (
        "import sys; sys.modules['demucs'] = None\n"
        "from pathlib import Path\n"
        "from musicgen_engine.core.separator_process import SeparatorProcess\n"
        "SeparatorProcess(Path('weights')).check()"
    )
    result = subprocess.run([sys.executable, "-c", code], stderr=subprocess.PIPE, text=True)
    assert "demucs is not installed here; install it, or send separate: false" in result.stderr


def test_a_separator_that_is_killed_fails_its_song_alone(weights: Path) -> None:
    with pytest.raises(GenerationFailed, match="could not be taken out of its mix; try again"):
        script("os.kill(os.getpid(), 9)").separate(MIX, always)
    assert SeparatorProcess(weights).separate(MIX, always).shape == (1, 32_000)


def test_a_separator_that_hangs_is_killed() -> None:
    with pytest.raises(GenerationFailed):
        script("time.sleep(600)").separate(MIX, always, timeout=0)


def test_a_separator_whose_engine_ends_while_it_starts_ends(weights: Path) -> None:
    """It imports torch first, for seconds."""
    command = [sys.executable, "-m", "musicgen_engine.core.separator", str(weights), "1"]
    another = str(os.getppid())
    result = subprocess.run([*command, another], input=MIX[:1].tobytes(), stdout=subprocess.PIPE)
    assert (result.returncode, result.stdout) == (1, b"")


def test_a_separation_that_nobody_wants_ends() -> None:
    answers = iter([True, True, False, False])
    with pytest.raises(Cancelled):
        script("time.sleep(600)").separate(MIX, lambda: next(answers))


def test_a_separator_gives_way_and_takes_limited_memory() -> None:
    answer = "print('{\"problem\": null}', flush=True); "
    limits = "import array, resource; sys.stdout.buffer.write(array.array('f', [os.nice(0), "
    limits += "resource.getrlimit(resource.RLIMIT_DATA)[1] / 2**30, len(os.environ)]))"
    nice, memory, variables = script(answer + limits).separate(MIX, always)[0]
    assert nice == min(19, os.nice(0) + NICENESS)
    assert memory * 2**30 == MAX_MEMORY < resource.RLIM_INFINITY or memory > 0
    assert variables <= 1  # LC_CTYPE, which Python sets
    with pytest.raises(GenerationFailed):
        script("bytearray(5 * 2**30)").separate(MIX, always)
