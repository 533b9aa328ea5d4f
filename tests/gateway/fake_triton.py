"""A fake of `gateway.contract.Triton`, which fails on demand."""

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator
from typing import Any

import numpy as np

from gateway.contract import (
    Changed,
    Chunk,
    DeadStub,
    Failed,
    Loading,
    NotLoaded,
    Progress,
    Ready,
    Status,
    Triton,
)
from protocol.constants import NO_CHROMA, SAMPLE_RATE, SAMPLES_PER_FRAME, Chroma
from protocol.errors import ServiceError, TritonUnavailable, WeightsChanged
from protocol.request import GenerationRequest
from protocol.section import check_change
from protocol.variant import Variant

CHUNK = 50  # frames of audio in a chunk
CHROMA = np.arange(12, dtype=np.int32)[None]  # of any melody
AHEAD = 3  # frames by which the codes run ahead of the audio


class FakeTriton:
    """`calls` has every load and unload, `models` those that are loaded. The other sets and
    dictionaries name the models that are dead, loading or failing."""

    def __init__(self, *names: str, cached: tuple[str, ...] = ()) -> None:
        self.variants = [
            Variant(
                name,
                f"facebook/{name}",
                "MIT",
                "cached" if name in cached else "missing",
                "300M",
                2_000_000_000,
                "stereo" if "stereo" in name else "mono",
                melody="melody" in name,
            )
            for name in names
        ]
        self.calls: list[str] = []
        self.models: set[str] = {"musicgen"}
        self.down = False
        self.dead: set[str] = set()
        self.loading: dict[str, Loading] = {}
        self.failing: dict[str, ServiceError] = {}
        self.songs: Counter[str] = Counter()  # in progress, of all clients
        self.slots = 1
        self.full_for = 0  # seconds
        self.closed = False
        self.silent = False  # to questions for a status
        self.asks = 0  # such questions
        self.song_error: ServiceError | None = None
        self.chunks = 1_000_000
        self.refusals: list[Exception] = []
        self.cuts: list[Exception] = []
        self.requests: list[GenerationRequest] = []
        self.revision = "0123456789ab"
        self.chroma = CHROMA  # of a melody
        self.last_chroma: Chroma | None = None  # of the last chunk, where it is another one
        self.pause = 0.0  # seconds before each chunk
        self.stuck = False
        self.running = 0
        self.numbers: list[int] = []  # of the songs in `requests`
        self.changes: list[dict[str, Any]] = []
        self.change_errors: list[Exception] = []
        self.change_delay = 0.0  # seconds before the reply to a change
        self.lost_replies: list[Exception] = []  # to changes that take effect
        self.mute = False  # changes are not told on the song's stream
        self._changed: dict[int, list[Changed]] = {}  # by song
        self._coded: dict[int, int] = {}

    def restart(self) -> None:
        self.models = {"musicgen"}

    async def close(self) -> None:
        self.closed = True

    async def catalogue(self) -> list[Variant]:
        await self._connect("musicgen")
        return self.variants

    async def loaded(self) -> set[str]:
        await self._connect()
        return self.models - {"musicgen"}

    async def status(self, model: str) -> Status:
        self.asks += 1
        while self.silent:
            await asyncio.Event().wait()
        await self._connect(model)
        if model in self.failing:
            return Failed(self.failing[model])
        ready = Ready(self.songs[model], self.slots, self.revision, full_for=self.full_for)
        return self.loading.get(model, ready)

    async def load(self, model: str) -> None:
        await self._connect()
        self.calls.append(f"load {model}")
        self.models.add(model)

    async def unload(self, model: str) -> None:
        await self._connect()
        self.calls.append(f"unload {model}")
        self.models.discard(model)
        self.dead.discard(model)

    async def generate(
        self, model: str, request: GenerationRequest, number: int
    ) -> AsyncGenerator[Progress | Chunk | Changed, None]:
        """Each sample and each code of frame f is f. A stream ends with the next error of
        `refusals` before its first response, or with that of `cuts` after its first chunk."""
        await self._connect(model)
        self.requests.append(request)
        self.numbers.append(number)
        self._changed[number] = []
        self.running += 1
        self.songs[model] += 1
        try:
            if self.song_error is not None:
                raise self.song_error
            if self.refusals:
                raise self.refusals.pop(0)
            is_mixed = request.melody is not None and request.separate
            yield Progress("separating" if is_mixed else "queued", 1)
            if self.stuck:
                await asyncio.Event().wait()
            channels = 2 if "stereo" in model else 1
            if request.revision not in (None, self.revision):
                raise WeightsChanged("REVISION: the weights are others now")
            coded = 0 if request.codes is None else request.codes.shape[1]
            first = request.start // SAMPLES_PER_FRAME
            for start in range(first, min(request.frames, CHUNK * self.chunks), CHUNK):
                self._coded[number] = coded
                await asyncio.sleep(self.pause)
                while self._changed[number]:
                    yield self._changed[number].pop(0)
                end = min(start + CHUNK, request.frames)
                frames = np.arange(start, end, dtype=np.float32) / 20_000
                audio = np.tile(np.repeat(frames, SAMPLES_PER_FRAME), (channels, 1))
                ahead = max(request.prompt_frames, min(end + AHEAD, request.frames))
                codes = np.tile(np.arange(coded, ahead, dtype=np.int32), (4, 1))
                coded = ahead
                state = "generating" if ahead < request.frames else "done"
                progress = Progress(state, frames=ahead)
                chroma = request.chroma if request.melody is None else self.chroma
                if state == "done" and self.last_chroma is not None:
                    chroma = self.last_chroma
                chroma = NO_CHROMA if chroma is None else chroma
                yield Chunk(audio, codes, SAMPLE_RATE, self.revision, progress, chroma)
                if self.cuts:
                    raise self.cuts.pop(0)
        finally:
            self.running -= 1
            self.songs[model] -= 1

    async def change(self, model: str, number: int, values: dict[str, Any]) -> Changed:
        """It counts from the last code on."""
        await self._connect(model)
        self.changes.append(values)
        if self.change_errors:
            raise self.change_errors.pop(0)
        frame = self._coded.get(number, 0)
        attributes, song = check_change(values), self.requests[self.numbers.index(number)]
        frames = attributes.pop("frames", None)
        request = song.changed(frame, attributes, frames)
        changed = Changed(frame, request.timeline)
        if not self.mute:
            self._changed[number].append(changed)
        await asyncio.sleep(self.change_delay)
        if self.lost_replies:
            raise self.lost_replies.pop(0)
        return changed

    async def _connect(self, model: str | None = None) -> None:
        await asyncio.sleep(0)
        if self.down:
            raise TritonUnavailable("Triton does not answer.")
        if model is not None and model not in self.models:
            raise NotLoaded(model)
        if model in self.dead:
            raise DeadStub(str(model))


def check_types(fake: FakeTriton) -> Triton:
    """For mypy alone."""
    return fake
