"""A stand-in at the boundary: it keeps `gateway.contract.Triton`, and breaks on demand."""

import asyncio
from collections.abc import AsyncGenerator

import numpy as np

from gateway.contract import Chunk, Failed, Loading, Progress, Ready, Status, Triton, Variant
from gateway.errors import DeadStub, GatewayError, NotLoaded, TritonUnavailable
from gateway.song import Song

SAMPLE_RATE = 32_000
SEED = 7


class FakeTriton:
    """Every load and unload is in `calls`. Sets and dictionaries say what is wrong with whom."""

    def __init__(self, *names: str, cached: tuple[str, ...] = ()) -> None:
        self.variants = [
            Variant(name, f"facebook/{name}", "MIT", "cached" if name in cached else "missing")
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

    async def generate(self, model: str, song: Song) -> AsyncGenerator[Progress | Chunk, None]:
        await self._reach(model)
        self.running += 1
        try:
            yield Progress()
            if self.song_error is not None:
                raise self.song_error
            if self.stuck:
                await asyncio.Event().wait()
            channels = 2 if "stereo" in model else 1
            for start in range(0, min(song.frames, 50 * self.chunks), 50):
                await asyncio.sleep(self.pause)
                samples = min(50, song.frames - start) * 640
                audio = np.full((channels, samples), 0.5, np.float32)
                yield Chunk(audio, SAMPLE_RATE, SEED)
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
