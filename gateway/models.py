"""Loading and unloading of models.

Triton knows which models are loaded, and their states. This module keeps what Triton cannot know:
how many songs use a model, when it was used last, which loads run, and why the last one failed.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress

from gateway.cached import Cached
from gateway.contract import (
    FRONT,
    DeadStub,
    Failed,
    Loading,
    NotLoaded,
    Ready,
    Status,
    Triton,
)
from gateway.resume_state import ResumeState
from gateway.settings import GatewaySettings
from protocol.errors import EngineUnavailable, ModelLoading, ServiceError, WeightsMissing
from protocol.variant import Variant

log = logging.getLogger(__name__)

PROGRESS_LOG_INTERVAL = 5.0


class Models:
    """Loads models on demand, never more than MAX_LOADED_MODELS at a time. The client of Triton is
    its own."""

    def __init__(self, triton: Triton, settings: GatewaySettings) -> None:
        self._triton = triton
        self._settings = settings
        self._users: Counter[str] = Counter()
        self._last_use: dict[str, float] = {}
        self._loads: dict[str, asyncio.Task[None]] = {}
        self._progress: dict[str, Loading] = {}
        self._failures: dict[str, ServiceError] = {}
        self._admitted: set[str] = set()
        self._leaving: str | None = None
        self._admission = asyncio.Lock()
        self._front_repair = asyncio.Lock()
        self.states = Cached(self._states, settings.poll_interval)

    async def close(self) -> None:
        """Stop waiting for the loads that run; Triton finishes them by itself. Close the client."""
        for load in self._loads.values():
            load.cancel()
        await asyncio.gather(*self._loads.values(), return_exceptions=True)
        await self._triton.close()

    @contextmanager
    def use(self, model: str) -> Iterator[None]:
        """Keep the model loaded inside the block, once it is loaded."""
        self._users[model] += 1
        try:
            yield
        finally:
            self._users[model] -= 1
            self._last_use[model] = asyncio.get_running_loop().time()

    async def catalogue(self) -> list[Variant]:
        """Every model that clients can name. Load the front model again when it is gone."""
        with suppress(DeadStub, NotLoaded):
            return await self._triton.catalogue()
        async with self._front_repair:
            with suppress(DeadStub, NotLoaded):
                return await self._triton.catalogue()
            log.warning("%s does not answer: loading it again", FRONT)
            await self._triton.unload(FRONT)
            await self._triton.load(FRONT)
            return await self._triton.catalogue()

    async def status(self, model: str) -> Status | None:
        """The status of the model; None if it is not loaded and did not fail."""
        return await self._status(model, await self._triton.loaded())

    def loading(self, model: str) -> Loading | None:
        """The progress of the load that this gateway waits for, if there is one."""
        return self._progress.get(model)

    async def has_room_for(self, model: str) -> bool:
        """Whether the model is loaded, or fits beside all models that are loaded or have users.

        Users of models that are not loaded wait for them: all do after a restart of Triton.
        """
        loaded = await self._triton.loaded()
        wanted = {name for name, users in self._users.items() if users} - {model}
        return model in loaded or self._has_room(loaded | wanted)

    async def ensure_ready(self, model: str) -> None:
        """Load the model if it is not loaded.

        Raises:
            ModelLoading: it takes longer than LOAD_TIMEOUT.
            WeightsMissing, EngineUnavailable: it cannot be loaded.
        """
        if model not in self._loads and await self._is_ready(model):
            return
        load = self._loads.get(model) or self._start_load(model)
        # Not wait_for, which would cancel the load: it belongs to all of its waiters.
        done, _ = await asyncio.wait({load}, timeout=self._settings.load_timeout)
        if not done:
            raise self._progress.get(model, Loading()).error(model)
        load.result()

    async def server(self, state: ResumeState) -> AbstractContextManager[Triton]:
        """Triton, when it takes the song: a new one when its model is ready, one that broke off
        also while the engine loads the weights.

        Raises as `ensure_ready`, or the error with which Triton has refused the song.
        """
        if state.refusals:
            raise state.refusals[self._triton]
        if state.lost_at is None:
            await self.ensure_ready(state.model)
        else:
            await self.ensure_open(state.model)
        return nullcontext(self._triton)

    async def ensure_open(self, model: str) -> None:
        """Return when the model accepts songs, though its engine may still load the weights.

        Raises as `ensure_ready`.
        """
        with suppress(DeadStub, NotLoaded):
            status = await self._triton.status(model)
            if isinstance(status, Failed):
                raise status.error
            return
        await self.ensure_ready(model)

    async def _states(self) -> list[tuple[Variant, Status | None]]:
        """Every model with its status."""
        catalogue, loaded = await self.catalogue(), await self._triton.loaded()
        statuses = await asyncio.gather(*(self._status(one.name, loaded) for one in catalogue))
        return list(zip(catalogue, statuses, strict=True))

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
        """Whether the model can generate. Raise the error of a failed engine: its stub restarts
        it, so there is nothing to load."""
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
        # Marks the error as seen, since all waiters may be gone.
        load.add_done_callback(lambda load: load.cancelled() or load.exception())
        return load

    async def _load(self, model: str) -> None:
        self._failures.pop(model, None)
        self._users[model] += 1
        try:
            await self._admit(model)
            await self._start(model)
            log.info("%s is ready", model)
        except (WeightsMissing, EngineUnavailable) as error:
            log.error("%s cannot be loaded: %s", model, error.message)
            self._failures[model] = error
            if isinstance(error, WeightsMissing):  # after other errors its stub tries again
                with suppress(ServiceError):
                    await self._triton.unload(model)
            raise
        finally:
            del self._loads[model]
            self._users[model] -= 1
            self._admitted.discard(model)
            self._progress.pop(model, None)

    async def _admit(self, model: str) -> None:
        """Wait for a place, first come, first served. Unload the idle model used longest ago.

        A model that has a place already does not queue: the head of the queue may wait for the
        users of that very model.
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
                    raise ModelLoading(f"{model} has no room: all others are busy; try later.")
                else:
                    await asyncio.sleep(self._settings.poll_interval)
                loaded = await self._triton.loaded()
            self._admitted.add(model)

    async def _busy(self, loaded: set[str]) -> set[str]:
        """The models that generate now, also for other clients of Triton."""
        busy = set()
        for model in loaded:
            with suppress(DeadStub, NotLoaded):
                status = await self._triton.status(model)
                if isinstance(status, Ready) and status.songs:
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

    async def _start(self, model: str) -> None:
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
