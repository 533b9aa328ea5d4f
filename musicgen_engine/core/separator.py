"""Takes the melody out of a mix: all but drums and bass. A process of its own, with limits.

    python -m musicgen_engine.core.separator WEIGHTS CHANNELS PARENT < MIX > MELODY

MIX is float32 [CHANNELS, samples] and MELODY float32 [samples], both at 32 kHz. The first line of
the output is JSON: {"problem": null}, or what is wrong with the weights. PARENT is the process that
starts it, with which it ends.

Source: audiocraft `modules/conditioners.py` (ChromaStemConditioner), demucs `hf.py` and `apply.py`.
"""

from __future__ import annotations

import inspect
import json
import os
import resource
import sys
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import torch
from demucs.apply import apply_model
from demucs.htdemucs import HTDemucs
from julius.resample import resample_frac
from safetensors import SafetensorError, safe_open
from torch import Tensor

from musicgen_engine.core.cores import limit_threads
from musicgen_engine.core.parent import end_with_parent
from protocol.constants import SAMPLE_RATE

MAX_MEMORY = 4 * 1024**3  # bytes of data; it needs 1.4 GB
NICENESS = 10  # a tenth of the time of a core that songs use
KIND = "demucs.htdemucs.HTDemucs"
CHANNELS, RATE = 2, 44_100  # of its audio
KEPT = ("vocals", "other")


class Unusable(ValueError):
    """The weights cannot be used. The message continues the name of their file."""


def load(file: Path) -> Any:
    """The separator that demucs wrote. Nothing that the file names is imported or called.

    Raises:
        Unusable
    """
    try:
        with safe_open(str(file), framework="pt") as weights:
            about, names = weights.metadata() or {}, weights.keys()
            state = {name: weights.get_tensor(name).float() for name in names}
    except (SafetensorError, OSError):
        raise Unusable("is not a file of safetensors, or only a part of one") from None
    if about.get("klass") != KIND:
        raise Unusable(f"holds another model than {KIND}")
    try:
        settings = json.loads(about["kwargs"], object_hook=_fraction)
        known = inspect.signature(HTDemucs).parameters
        with torch.device("meta"):  # memory is for the weights of the file alone
            model = HTDemucs(**{name: settings[name] for name in settings if name in known})
        model.load_state_dict(state, assign=True)
        assert {*KEPT} <= {*model.sources}
        assert (model.audio_channels, model.samplerate) == (CHANNELS, RATE)
    except Exception:  # such settings and such weights fail anywhere
        raise Unusable("holds settings or weights that do not fit an HTDemucs") from None
    return model.eval()


def _fraction(value: dict[str, Any]) -> Any:
    if value.get("_type") == "fraction":
        return Fraction(value["numerator"], value["denominator"])
    return value


@torch.inference_mode()
def melody(model: Any, mix: Tensor) -> Tensor:
    """[channels, samples] → [samples]"""
    wave = resample_frac(mix.expand(CHANNELS, -1), SAMPLE_RATE, RATE)
    stems = apply_model(model, wave[None], shifts=0)[0]  # demucs's default is a random shift
    kept = stems[[model.sources.index(source) for source in KEPT]].sum(0)
    alone: Tensor = resample_frac(kept.mean(0), RATE, SAMPLE_RATE)
    return alone


def confine(parent: int) -> None:
    """Give way to songs, take limited memory, and end with the engine, its parent."""
    end_with_parent(parent)
    limit_threads()
    os.nice(NICENESS)
    resource.setrlimit(resource.RLIMIT_DATA, (MAX_MEMORY, MAX_MEMORY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def main() -> None:
    file, channels, parent = Path(sys.argv[1]), *map(int, sys.argv[2:])
    confine(parent)
    mix = np.frombuffer(bytearray(sys.stdin.buffer.read()), np.float32).reshape(channels, -1)
    try:
        model = load(file)
    except Unusable as error:
        print(json.dumps({"problem": str(error)}))
        return
    samples = melody(model, torch.from_numpy(mix)).numpy()
    print(json.dumps({"problem": None}), flush=True)
    sys.stdout.buffer.write(samples.data)


if __name__ == "__main__":
    main()
