"""Which models are loaded, and when.

Triton knows what is loaded and in which state. Kept here is only what it cannot know: who uses a
model, when it was used last, which loads run, and why the last one failed.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from gateway.contract import FRONT, Failed, Loading, Ready, Status, Triton, Variant
from gateway.errors import (
    DeadStub,
    EngineUnavailable,
    GatewayError,
    ModelLoading,
    NotLoaded,
    WeightsMissing,
)
from gateway.settings import Settings

log = logging.getLogger(__name__)

PROGRESS_LOG_INTERVAL = 5.0


class Models:
    """Loads models when they are asked for, never more than MAX_LOADED_MODELS at a time."""

    def __init__(self, triton: Triton, settings: Settings) -> None:
        self._triton = triton
        self._settings = settings
        self._users: Counter[str] = Counter()
        self._last_use: dict[str, float] = {}
        self._loads: dict[str, asyncio.Task[None]] = {}
        self._progress: dict[str, Loading] = {}
        self._failures: dict[str, GatewayError] = {}
        self._admitted: set[str] = set()
        self._leaving: str | None = None
        self._admission = asyncio.Lock()
        self._front_repair = asyncio.Lock()

    async def close(self) -> None:
        """Waits no longer for the loads that run; Triton finishes them by itself."""
        for load in self._loads.values():
            load.cancel()
        await asyncio.gather(*self._loads.values(), return_exceptions=True)

    @asynccontextmanager
    async def use(self, model: str) -> AsyncIterator[None]:
        """Inside, the model is loaded and stays so. Raises the kinds of `Unavailable`."""
        self._users[model] += 1
        try:
            await self.ensure_ready(model)
            yield
        finally:
            self._users[model] -= 1
            self._last_use[model] = asyncio.get_running_loop().time()

    async def catalogue(self) -> list[Variant]:
        """Every model that can be asked for. Brings the front model back when it is gone."""
        with suppress(DeadStub, NotLoaded):
            return await self._triton.catalogue()
        async with self._front_repair:
            with suppress(DeadStub, NotLoaded):
                return await self._triton.catalogue()
            log.warning("%s does not answer: loading it again", FRONT)
            await self._triton.unload(FRONT)
            await self._triton.load(FRONT)
            return await self._triton.catalogue()

    async def statuses(self, models: list[str]) -> list[Status | None]:
        """How the models are; None is one that is not loaded and did not fail either."""
        loaded = await self._triton.loaded()
        return await asyncio.gather(*(self._status(model, loaded) for model in models))

    def loading(self, model: str) -> Loading | None:
        """How far the load is that this gateway waits for, if it does."""
        return self._progress.get(model)

    async def has_room_for(self, model: str) -> bool:
        """Whether it is loaded, or could be without taking the place of another that is loaded, or
        whose users wait for it, as all do when Triton has started again."""
        loaded = await self._triton.loaded()
        wanted = {name for name, users in self._users.items() if users} - {model}
        return model in loaded or self._has_room(loaded | wanted)

    async def ensure_ready(self, model: str) -> None:
        """Loads the model if need be. Raises `ModelLoading` when that takes over LOAD_TIMEOUT."""
        if model not in self._loads and await self._is_ready(model):
            return
        load = self._loads.get(model) or self._start_load(model)
        # Not wait_for: the load belongs to all who wait for it, and goes on without them.
        done, _ = await asyncio.wait({load}, timeout=self._settings.load_timeout)
        if not done:
            raise self._progress.get(model, Loading()).error(model)
        load.result()

    async def _status(self, model: str, loaded: set[str]) -> Status | None:
        if model in self._loads:
            return self._progress.get(model, Loading())
        if model in loaded:
            try:
                return await self._triton.status(model)
            except (DeadStub, NotLoaded) as error:
                return Failed(error)
        return Failed(self._failures[model]) if model in self._failures else None

    async def _is_ready(self, model: str) -> bool:
        """Raises what the engine failed of: its stub starts it again, there is nothing to load."""
        if model == self._leaving:
            return False
        with suppress(DeadStub, NotLoaded):
            status = await self._triton.status(model)
            if isinstance(status, Failed):
                raise status.error
            return isinstance(status, Ready)
        return False

    def _start_load(self, model: str) -> asyncio.Task[None]:
        load = self._loads[model] = asyncio.create_task(self._load(model))
        # Marks the error as seen, for all who waited may be gone.
        load.add_done_callback(lambda load: load.cancelled() or load.exception())
        return load

    async def _load(self, model: str) -> None:
        self._failures.pop(model, None)
        self._users[model] += 1
        try:
            await self._admit(model)
            await self._bring_up(model)
            log.info("%s is ready", model)
        except (WeightsMissing, EngineUnavailable) as error:
            log.error("%s cannot be loaded: %s", model, error.message)
            self._failures[model] = error
            if isinstance(error, WeightsMissing):  # others may pass: its stub tries again
                with suppress(GatewayError):
                    await self._triton.unload(model)
            raise
        finally:
            del self._loads[model]
            self._users[model] -= 1
            self._admitted.discard(model)
            self._progress.pop(model, None)

    async def _admit(self, model: str) -> None:
        """Waits for a place, first come first served; unloads the idle model used longest ago.

        A model that has a place already does not queue: those who do may wait for its users.
        """
        if model != self._leaving and model in await self._triton.loaded():
            self._admitted.add(model)
            return
        clock = asyncio.get_running_loop().time
        deadline = clock() + self._settings.load_timeout
        async with self._admission:
            loaded = await self._triton.loaded()
            while model not in loaded and not self._has_room(loaded):
                busy = await self._busy(loaded)
                idle = [name for name in loaded - busy if not self._users[name]]
                if idle:
                    await self._evict(min(idle, key=lambda name: self._last_use.get(name, 0.0)))
                elif clock() > deadline:
                    raise ModelLoading(f"{model} finds no room: all others are busy; try later.")
                else:
                    await asyncio.sleep(self._settings.poll_interval)
                loaded = await self._triton.loaded()
            self._admitted.add(model)

    async def _busy(self, loaded: set[str]) -> set[str]:
        """Those that make music now, for whomever: Triton has other clients than this gateway."""
        busy = set()
        for model in loaded:
            with suppress(DeadStub, NotLoaded):
                status = await self._triton.status(model)
                if isinstance(status, Ready) and status.busy:
                    busy.add(model)
        return busy

    def _has_room(self, loaded: set[str]) -> bool:
        return len(loaded | self._admitted) < self._settings.max_loaded_models

    async def _evict(self, model: str) -> None:
        log.info("unloading %s to make room", model)
        self._leaving = model
        try:
            await self._triton.unload(model)
        finally:
            self._leaving = None

    async def _bring_up(self, model: str) -> None:
        try:
            await self._triton.status(model)
        except NotLoaded:
            log.info("loading %s", model)
            await self._triton.load(model)
        except DeadStub:
            log.warning("%s does not answer: loading it again", model)
            await self._triton.unload(model)
            await self._triton.load(model)
        clock = asyncio.get_running_loop().time
        next_line = clock() + PROGRESS_LOG_INTERVAL
        while not isinstance(status := await self._triton.status(model), Ready):
            if isinstance(status, Failed):
                raise status.error
            self._progress[model] = status
            if clock() >= next_line:
                log.info(status.describe(model))
                next_line += PROGRESS_LOG_INTERVAL
            await asyncio.sleep(self._settings.poll_interval)
