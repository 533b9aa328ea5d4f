"""A stand-in at the boundary: it keeps `gateway.contract.Triton`, and breaks on demand."""

import asyncio
from collections.abc import AsyncGenerator

import numpy as np

from gateway.contract import (
    Chunk,
    Failed,
    Held,
    Loading,
    Progress,
    Ready,
    Status,
    Triton,
    Variant,
)
from gateway.errors import (
    DeadStub,
    GatewayError,
    NotLoaded,
    TritonUnavailable,
    WeightsChanged,
)
from gateway.song import Song

SAMPLE_RATE = 32_000
CHUNK = 50  # frames; so many have a code of their own ahead of the audio
AHEAD = 3


class FakeTriton:
    """Every load and unload is in `calls`. Sets and dictionaries say what is wrong with whom."""

    def __init__(self, *names: str, cached: tuple[str, ...] = ()) -> None:
        self.variants = [
            Variant(
                name,
                f"facebook/{name}",
                "MIT",
                "cached" if name in cached else "missing",
                "300M",
                "stereo" if "stereo" in name else "mono",
            )
            for name in names
        ]
        self.calls: list[str] = []
        self.held: set[str] = {"musicgen"}
        self.down = False
        self.dead: set[str] = set()
        self.loading: dict[str, Loading] = {}
        self.failing: dict[str, GatewayError] = {}
        self.busy: set[str] = set()
        self.song_error: GatewayError | None = None
        self.chunks = 1_000_000
        self.cuts: list[Exception] = []
        self.heard: list[tuple[Song, Held]] = []
        self.revision = "0123456789ab"
        self.pause = 0.0
        self.stuck = False
        self.running = 0

    def restart(self) -> None:
        self.held = {"musicgen"}

    async def catalogue(self) -> list[Variant]:
        await self._reach("musicgen")
        return self.variants

    async def loaded(self) -> set[str]:
        await self._reach()
        return self.held - {"musicgen"}

    async def status(self, model: str) -> Status:
        await self._reach(model)
        if model in self.failing:
            return Failed(self.failing[model])
        return self.loading.get(model, Ready(busy=model in self.busy))

    async def load(self, model: str) -> None:
        await self._reach()
        self.calls.append(f"load {model}")
        self.held.add(model)

    async def unload(self, model: str) -> None:
        await self._reach()
        self.calls.append(f"unload {model}")
        self.held.discard(model)
        self.dead.discard(model)

    async def generate(
        self, model: str, song: Song, held: Held
    ) -> AsyncGenerator[Progress | Chunk, None]:
        """Sample n of frame f is f; so is each code of frame f. One of `cuts` ends each request
        after a chunk of its own, as long as there are any."""
        await self._reach(model)
        self.heard.append((song, held))
        self.running += 1
        try:
            if self.song_error is not None:
                raise self.song_error
            yield Progress("queued", 1)
            if self.stuck:
                await asyncio.Event().wait()
            channels = 2 if "stereo" in model else 1
            if held.revision not in (None, self.revision):
                raise WeightsChanged("REVISION: the weights are others now")
            told = sum(codes.shape[1] for codes in held.codes)
            first = held.samples // 640
            for start in range(first, min(song.frames, CHUNK * self.chunks), CHUNK):
                await asyncio.sleep(self.pause)
                end = min(start + CHUNK, song.frames)
                audio = np.repeat(np.arange(start, end, dtype=np.float32) / 20_000, 640)
                ahead = min(end + AHEAD, song.frames)
                codes = np.tile(np.arange(told, ahead, dtype=np.int32), (4, 1))
                told = ahead
                progress = Progress("generating" if ahead < song.frames else "done", frames=ahead)
                audio = np.tile(audio, (channels, 1))
                yield Chunk(audio, codes, SAMPLE_RATE, self.revision, progress)
                if self.cuts:
                    raise self.cuts.pop(0)
        finally:
            self.running -= 1

    async def _reach(self, model: str | None = None) -> None:
        await asyncio.sleep(0)
        if self.down:
            raise TritonUnavailable
        if model is not None and model not in self.held:
            raise NotLoaded(model)
        if model in self.dead:
            raise DeadStub(str(model))


def keeps_the_contract(fake: FakeTriton) -> Triton:
    """For mypy alone."""
    return fake
