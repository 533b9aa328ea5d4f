"""A song as it was asked for: checked once, then never changed."""

from __future__ import annotations

import math
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from protocol.errors import InvalidInput, WeightsChanged

Samples = npt.NDArray[np.float32]  # [channels, samples], full scale is 1
Codes = npt.NDArray[np.int32]  # [codebooks, frames]

FRAME_RATE = 50  # codec frames a second, the same in every MusicGen
SAMPLE_RATE = 32_000  # a second, the same too
SAMPLES_PER_FRAME = SAMPLE_RATE // FRAME_RATE
MAX_PROMPT = 2_000  # characters
COLDEST = 0.01  # temperature; below, half precision overflows
MAX_PROMPT_AUDIO = 30.0  # seconds; audiocraft's own limit
MAX_CHANNELS = 8  # of it
# Hz, of it: resampling takes memory by the square of what two rates do not have in common.
SAMPLE_RATES, SAMPLE_RATE_STEP = (8_000, 192_000), 25


@dataclass(frozen=True)
class Song:
    """Sampling settings are audiocraft's, with its defaults; `temperature` 0 is greedy.

    `frames` is the length (50 a second) and the only measure of it from here on: seconds in
    floating point disagree (0.7 s is 34 or 35 frames by type).

    A song that goes on from what its listener holds has `codes`, all of them from the song's
    beginning, and `start`: the samples per channel that the listener has had. One that goes on from
    other music has that as `prompt_audio`, at `prompt_sample_rate`, instead. `revision` is that of
    the weights it must be made with; None is any.
    """

    prompt: str
    frames: int
    seed: int
    temperature: float = 1.0
    top_k: int = 250
    top_p: float = 0.0
    cfg_coef: float = 3.0
    extend_stride: float = 18.0  # seconds
    revision: str | None = None
    codes: Codes | None = field(default=None, compare=False, repr=False)
    prompt_audio: Samples | None = field(default=None, compare=False, repr=False)
    prompt_sample_rate: int = SAMPLE_RATE
    start: int = 0

    @property
    def stride(self) -> int:
        """Frames from the start of one of its windows to the next one's."""
        return round(self.extend_stride * FRAME_RATE)

    @property
    def held(self) -> int:
        """Frames that are given: of its codes, or whole ones of its prompt's audio."""
        if self.prompt_audio is not None:
            return _whole_frames(self.prompt_audio, self.prompt_sample_rate)
        return 0 if self.codes is None else self.codes.shape[1]

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
        song = cls(
            prompt=prompt,
            frames=frames,
            # 32 bits are seeds enough, and every client's JSON holds them exactly.
            seed=int(_within(inputs, "SEED", secrets.randbits(32), 0, 2**63 - 1)),
            temperature=temperature,
            top_k=int(_within(inputs, "TOP_K", cls.top_k, 0, 1_000_000)),
            top_p=_within(inputs, "TOP_P", cls.top_p, 0.0, 1.0),
            cfg_coef=_within(inputs, "CFG_COEF", cls.cfg_coef, 0.0, 100.0),
            extend_stride=_within(inputs, "EXTEND_STRIDE", cls.extend_stride, 1.0, 60.0),
            revision=_text(inputs, "REVISION") or None,
            codes=_codes(inputs, frames),
            **_prompt_audio(inputs, frames),
        )
        return replace(song, start=_start(inputs, song.held))

    def check(self, codebooks: int, card: int, window: int, revision: str) -> None:
        """Whether a model can make it that has `codebooks` of `card` codes each, sees `window`
        frames at a time, and whose weights are of `revision`.

        Raises:
            InvalidInput: naming the input, its value and what would be right.
            WeightsChanged: it was begun with other weights.
        """
        if self.revision not in (None, revision):
            raise WeightsChanged(
                f"REVISION: {self.revision!r} is not here; the weights are {revision!r} now"
            )
        if self.stride >= window:
            limits = f"less than {window / FRAME_RATE:g}, what the model sees at a time"
            raise InvalidInput(f"EXTEND_STRIDE: {self.extend_stride:g} is too much; give {limits}")
        if self.codes is None:
            return
        if len(self.codes) != codebooks:
            raise InvalidInput(f"CODES: {len(self.codes)} codebooks; this model has {codebooks}")
        if (most := self.codes.max(initial=0)) >= card:
            raise InvalidInput(f"CODES: {most} is out of range; give 0 to {card - 1}")


def _prompt(inputs: Mapping[str, Any]) -> str:
    if "PROMPT" not in inputs:
        raise InvalidInput("PROMPT: missing; describe the music (it may be empty)")
    prompt = _text(inputs, "PROMPT")
    if len(prompt) > MAX_PROMPT:
        raise InvalidInput(f"PROMPT: {len(prompt)} characters; at most {MAX_PROMPT} are read")
    return prompt


def _text(inputs: Mapping[str, Any], name: str) -> str:
    try:
        return bytes(inputs.get(name, b"")).decode()
    except UnicodeDecodeError as error:
        raise InvalidInput(f"{name}: not UTF-8 ({error.reason}); encode it as UTF-8") from None


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


def _prompt_audio(inputs: Mapping[str, Any], frames: int) -> dict[str, Any]:
    """The fields of a song that goes on from audio; none for another."""
    audio: Samples | None = inputs.get("PROMPT_AUDIO")
    if audio is None:
        return {}
    if "CODES" in inputs:
        raise InvalidInput("PROMPT_AUDIO: together with CODES; give one of them")
    if audio.ndim != 2 or not 1 <= len(audio) <= MAX_CHANNELS:
        limits = f"[channels, samples] with 1 to {MAX_CHANNELS} channels"
        raise InvalidInput(f"PROMPT_AUDIO: of shape {list(audio.shape)}; give {limits}")
    (slowest, fastest), step = SAMPLE_RATES, SAMPLE_RATE_STEP
    rate = int(inputs.get("PROMPT_SAMPLE_RATE", SAMPLE_RATE))
    if not slowest <= rate <= fastest or rate % step:
        limits = f"a multiple of {step} from {slowest} to {fastest}"
        raise InvalidInput(f"PROMPT_SAMPLE_RATE: {rate} is out of range; give {limits}")
    seconds, held = audio.shape[1] / rate, _whole_frames(audio, rate)
    if not held or seconds > MAX_PROMPT_AUDIO:
        limits = f"{1 / FRAME_RATE:g} to {MAX_PROMPT_AUDIO:g}"
        raise InvalidInput(f"PROMPT_AUDIO: {seconds:g} s long; give {limits}")
    if held >= frames:
        raise InvalidInput(
            f"PROMPT_AUDIO: {held} frames; the song has {frames} with it, give a longer DURATION"
        )
    if not np.isfinite(audio).all():
        raise InvalidInput("PROMPT_AUDIO: not finite everywhere; give numbers, full scale is 1")
    return {"prompt_audio": audio, "prompt_sample_rate": rate}


def _whole_frames(audio: Samples, sample_rate: int) -> int:
    return audio.shape[1] * FRAME_RATE // sample_rate


def _start(inputs: Mapping[str, Any], held: int) -> int:
    """Samples; `held` is in frames."""
    start, most = int(inputs.get("START", 0)), held * SAMPLES_PER_FRAME
    if not 0 <= start <= most:
        limits = f"0 to {most}, for {held} frames of {SAMPLES_PER_FRAME} samples are held"
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
