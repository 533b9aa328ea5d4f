"""Values by the names of the table → a checked request."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from protocol.constants import (
    FRAME_RATE,
    MAX_CHANNELS,
    MAX_MELODY_SECONDS,
    MAX_PROMPT_SECONDS,
    MAX_SAMPLE_RATE,
    MIN_SAMPLE_RATE,
    PITCH_CLASSES,
    SAMPLE_RATE_STEP,
    SAMPLES_PER_FRAME,
    UNKNOWN,
    Samples,
)
from protocol.errors import InvalidField
from protocol.fields import Duration, Field, check
from protocol.request import (
    DRAW,
    FIELDS,
    REPLACED,
    GenerationRequest,
    complete,
    draw_seed,
    whole_frames,
)
from protocol.section import SETTINGS, Section


def request_fields(max_duration: float) -> dict[str, Field]:
    """The table for a service whose songs last at most `max_duration` seconds.

    The longest song is whole frames, so that the gateway's rounding never exceeds it.
    """
    duration = FIELDS["duration"]
    assert isinstance(duration.row, Duration)
    longest = max(1, round(max_duration * FRAME_RATE)) / FRAME_RATE
    return {**FIELDS, "duration": replace(duration, row=replace(duration.row, high=longest))}


def parse_request(values: Mapping[str, Any], max_duration: float) -> GenerationRequest:
    """The request that `values`, by the names of the table, describe.

    Args:
        max_duration: seconds.

    Raises:
        InvalidField: it names the field, its value and the remedy.
    """
    fields = request_fields(max_duration)
    if "sections" in values:
        request = _of_sections(fields, values)
    else:
        request = _of_one_section(check(fields, dict(values)))
    if request.seed == DRAW:
        request = replace(request, seed=draw_seed())
    if request.codes is not None:
        request = _checked_codes(request)
    if request.chroma is not None and not request.chroma.size:
        request = replace(request, chroma=None)
    if request.prompt_audio is not None and "codes" in values:
        raise InvalidField.of_pair("prompt_audio", "codes")
    _check_prompt_audio(request)
    _check_melody(request)
    _check_start(request)
    return request


def _of_one_section(attributes: dict[str, Any]) -> GenerationRequest:
    """A request without `sections`, unless its prompt is a blend: Triton's PROMPT is text."""
    prompt = attributes["prompt"]
    if isinstance(prompt, str):
        return GenerationRequest(**attributes)
    song = GenerationRequest(**{**attributes, "prompt": ""})
    return song.with_sections([song.as_section(prompt)])


def _of_sections(fields: dict[str, Field], values: Mapping[str, Any]) -> GenerationRequest:
    """A request with `sections`. Its prompt is that of all of them."""
    for name in REPLACED:
        if name in values:
            raise InvalidField.of_pair(name, "sections")
    own = {name: field for name, field in fields.items() if name not in (*REPLACED, "sections")}
    parts = fields["sections"].row.check("sections", values["sections"])
    frames, whole = sum(part["frames"] for part in parts), fields["duration"].row
    assert isinstance(whole, Duration)
    if frames > (longest := whole.high) * FRAME_RATE:
        problem = f"last {frames / FRAME_RATE:g} s together; give at most {longest:g}"
        raise InvalidField.of_field("sections", problem)
    song = GenerationRequest(prompt="", frames=frames, **check(own, dict(values)))
    settings = {name: getattr(song, name) for name in SETTINGS}
    return song.with_sections(Section(**{**settings, **part}) for part in parts)


def _check_prompt_audio(request: GenerationRequest) -> None:
    audio = request.prompt_audio
    if audio is None:
        return
    _check_audio("prompt", audio, request.prompt_sample_rate, MAX_PROMPT_SECONDS)
    if request.prompt_frames >= request.frames:
        raise InvalidField.of_field(
            "prompt_audio",
            f"has {request.prompt_frames} frames; the song has {request.frames} with it, "
            "give a longer duration",
        )


def _check_melody(request: GenerationRequest) -> None:
    melody, chroma = request.melody, request.chroma
    if melody is not None:
        _check_audio("melody", melody, request.melody_sample_rate, MAX_MELODY_SECONDS)
        if chroma is not None and complete(chroma):
            raise InvalidField.of_pair("melody", "chroma")
    elif chroma is not None and not complete(chroma):
        problem = f"holds {UNKNOWN}; give 0 to {PITCH_CLASSES - 1}, or melody beside it"
        raise InvalidField.of_field("chroma", problem)


def _check_start(request: GenerationRequest) -> None:
    limit = request.prompt_frames * SAMPLES_PER_FRAME
    if request.start > limit:
        frames = f"{request.prompt_frames} frames of {SAMPLES_PER_FRAME} samples"
        problem = f"is {request.start}; give 0 to {limit}, for the request holds {frames}"
        raise InvalidField.of_field("start", problem)


def _checked_codes(request: GenerationRequest) -> GenerationRequest:
    """The request without codes where these have no frame."""
    codes = request.codes
    assert codes is not None
    codebooks, frames = codes.shape
    if not codebooks:
        problem = f"has the shape {list(codes.shape)}; give [codebooks, frames]"
        raise InvalidField.of_field("codes", problem)
    if frames > request.frames:
        problem = f"has {frames} frames; the song has {request.frames}, give no more"
        raise InvalidField.of_field("codes", problem)
    if not frames:
        return replace(request, codes=None)
    if (least := codes.min()) < 0:
        raise InvalidField.of_field("codes", f"holds {least}; give 0 and more")
    return request


def _check_audio(kind: str, audio: Samples, rate: int, longest: float) -> None:
    """`kind` is "prompt" or "melody", `longest` is in seconds."""
    name = "melody" if kind == "melody" else f"{kind}_audio"
    if not 1 <= len(audio) <= MAX_CHANNELS:
        limits = f"[channels, samples] with 1 to {MAX_CHANNELS} channels"
        problem = f"has the shape {list(audio.shape)}; give {limits}"
        raise InvalidField.of_field(name, problem)
    if rate % SAMPLE_RATE_STEP:
        limits = f"a multiple of {SAMPLE_RATE_STEP} from {MIN_SAMPLE_RATE} to {MAX_SAMPLE_RATE}"
        raise InvalidField.of_field(f"{kind}_sample_rate", f"is {rate}; give {limits}")
    seconds, frames = audio.shape[1] / rate, whole_frames(audio, rate)
    if not frames or seconds > longest:
        limits = f"{1 / FRAME_RATE:g} to {longest:g} s"
        raise InvalidField.of_field(name, f"lasts {seconds:g} s; give {limits}")
    if not np.isfinite(audio).all():
        problem = "holds NaN or infinity; give finite numbers, full scale is 1"
        raise InvalidField.of_field(name, problem)
