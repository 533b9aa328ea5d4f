"""A song as it was asked for: checked once, then never changed."""

from __future__ import annotations

import math
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from musicgen_engine.errors import InvalidInput

Samples = npt.NDArray[np.float32]  # [channels, samples], full scale is 1
Codes = npt.NDArray[np.int32]  # [codebooks, frames]

FRAME_RATE = 50  # codec frames a second, the same in every MusicGen
SAMPLE_RATE = 32_000  # a second, the same too
SAMPLES_PER_FRAME = SAMPLE_RATE // FRAME_RATE
MAX_PROMPT = 2_000  # characters
COLDEST = 0.01  # temperature; below, half precision overflows


@dataclass(frozen=True)
class Song:
    """Sampling settings are audiocraft's, with its defaults; `temperature` 0 is greedy.

    `frames` is the length (50 a second) and the only measure of it from here on: seconds in
    floating point disagree (0.7 s is 34 or 35 frames by type).

    A song that goes on from what its listener holds has `codes`, all of them from the song's
    beginning, and `start`: the samples per channel that the listener has had.
    """

    prompt: str
    frames: int
    seed: int
    temperature: float = 1.0
    top_k: int = 250
    top_p: float = 0.0
    cfg_coef: float = 3.0
    codes: Codes | None = field(default=None, compare=False, repr=False)
    start: int = 0

    @classmethod
    def parse(cls, inputs: Mapping[str, Any], max_duration: float) -> Song:
        """The song that the inputs of a request (name → its value, CODES → array) describe.

        Args:
            max_duration: seconds.

        Raises:
            InvalidInput: naming the input, its value and what would be right.
        """
        temperature = _within(inputs, "TEMPERATURE", cls.temperature, 0.0, 100.0)
        if 0 < temperature < np.float32(COLDEST):  # in which it came: 0.01 is a little less there
            raise InvalidInput(f"TEMPERATURE: {temperature} is too low; give 0 or {COLDEST} to 100")
        prompt, frames = _prompt(inputs), _frames(inputs, max_duration)
        codes = _codes(inputs, frames)
        return cls(
            prompt=prompt,
            frames=frames,
            # 32 bits are seeds enough, and every client's JSON holds them exactly.
            seed=int(_within(inputs, "SEED", secrets.randbits(32), 0, 2**63 - 1)),
            temperature=temperature,
            top_k=int(_within(inputs, "TOP_K", cls.top_k, 0, 1_000_000)),
            top_p=_within(inputs, "TOP_P", cls.top_p, 0.0, 1.0),
            cfg_coef=_within(inputs, "CFG_COEF", cls.cfg_coef, 0.0, 100.0),
            codes=codes,
            start=_start(inputs, 0 if codes is None else codes.shape[1]),
        )

    def check(self, codebooks: int, card: int) -> None:
        """Whether `codes` can be those of a model with `codebooks` of `card` codes each.

        Raises:
            InvalidInput: naming the input, its value and what would be right.
        """
        if self.codes is None:
            return
        if len(self.codes) != codebooks:
            raise InvalidInput(f"CODES: {len(self.codes)} codebooks; this model has {codebooks}")
        if (most := self.codes.max(initial=0)) >= card:
            raise InvalidInput(f"CODES: {most} is out of range; give 0 to {card - 1}")


def _prompt(inputs: Mapping[str, Any]) -> str:
    if "PROMPT" not in inputs:
        raise InvalidInput("PROMPT: missing; describe the music (it may be empty)")
    try:
        prompt = bytes(inputs["PROMPT"]).decode()
    except UnicodeDecodeError as error:
        raise InvalidInput(f"PROMPT: not UTF-8 ({error.reason}); encode it as UTF-8") from None
    if len(prompt) > MAX_PROMPT:
        raise InvalidInput(f"PROMPT: {len(prompt)} characters; at most {MAX_PROMPT} are read")
    return prompt


def _frames(inputs: Mapping[str, Any], max_duration: float) -> int:
    if "DURATION" not in inputs:
        raise InvalidInput("DURATION: missing; give the seconds of music")
    seconds = float(inputs["DURATION"])
    frames = max(1, round(seconds * FRAME_RATE)) if 0 < seconds < math.inf else 0
    # In frames, for the seconds came as float32: 30.1 would be more than 30.1.
    if not 0 < frames <= round(max_duration * FRAME_RATE):
        limits = f"more than 0, at most {max_duration:g}"
        raise InvalidInput(f"DURATION: {seconds:g} is out of range; give seconds, {limits}")
    return frames


def _codes(inputs: Mapping[str, Any], frames: int) -> Codes | None:
    """None for codes of no frame: their holder holds nothing."""
    codes: Codes | None = inputs.get("CODES")
    if codes is None:
        return None
    if codes.ndim != 2 or not len(codes):
        raise InvalidInput(f"CODES: of shape {list(codes.shape)}; give [codebooks, frames]")
    held = codes.shape[1]
    if held > frames:
        raise InvalidInput(f"CODES: {held} frames; the song has {frames}, give no more")
    if not held:
        return None
    if (least := codes.min()) < 0:
        raise InvalidInput(f"CODES: {least} is out of range; give 0 and up")
    return codes


def _start(inputs: Mapping[str, Any], held: int) -> int:
    """Samples; `held` is in frames."""
    start, most = int(inputs.get("START", 0)), held * SAMPLES_PER_FRAME
    if not 0 <= start <= most:
        limits = f"0 to {most}, for CODES holds {held} frames of {SAMPLES_PER_FRAME} samples"
        raise InvalidInput(f"START: {start} is out of range; give {limits}")
    return start


def _within(inputs: Mapping[str, Any], name: str, default: float, low: float, high: float) -> float:
    """An input's number; integers stay integers, so that a 63-bit seed keeps all its bits."""
    if name not in inputs:
        return default
    value: float = inputs[name].item()
    if not (math.isfinite(value) and low <= value <= high):
        raise InvalidInput(f"{name}: {value} is out of range; give {low:g} to {high:g}")
    return value
