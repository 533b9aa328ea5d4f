"""Models with several Triton servers each.

A pool is a name that resolves to the addresses of its servers. They hold the model already: the
gateway loads and unloads nothing there.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

from gateway.addresses import Resolve, resolve
from gateway.cached import Cached
from gateway.contract import Loading, Status, Triton
from gateway.metrics import Metrics
from gateway.pool import Pool
from gateway.resume_state import ResumeState
from gateway.server import Server
from gateway.settings import GatewaySettings
from protocol.errors import ModelLoading
from protocol.variant import Variant


class Pools:
    """The models of all pools; `Models` is the same for one Triton, which loads them."""

    def __init__(
        self,
        settings: GatewaySettings,
        metrics: Metrics,
        connect: Callable[[str], Triton],
        resolve: Resolve = resolve,
    ) -> None:
        self._settings = settings
        self._metrics = metrics
        self._pools = {
            model: Pool(model, names, settings, metrics, connect, resolve)
            for model, names in settings.triton_pools.items()
        }
        self.states = Cached(self._states, settings.poll_interval)

    async def close(self) -> None:
        await asyncio.gather(*(pool.close() for pool in self._pools.values()))

    def use(self, _model: str) -> AbstractContextManager[None]:
        return nullcontext()

    async def catalogue(self) -> list[Variant]:
        """Every model that clients can name, also before a server has described it."""
        await asyncio.gather(*(pool.known.wait() for pool in self._pools.values()))
        return [pool.variant for pool in self._pools.values()]

    async def status(self, model: str) -> Status:
        return await self._pools[model].status()

    def loading(self, model: str) -> Loading | None:
        return self._pools[model].loading()

    async def has_room_for(self, _model: str) -> bool:
        return True

    async def ensure_ready(self, model: str) -> None:
        """Return when a server takes songs.

        Raises:
            ModelLoading: they load for longer than LOAD_TIMEOUT.
            ServiceError: why none does.
        """
        await self._when_loaded(self._pools[model])

    async def server(self, state: ResumeState) -> AbstractContextManager[Triton]:
        """The emptiest server that takes the song. One that broke off does not wait for servers
        that load.

        Raises as `ensure_ready`, or why no server has room for it, with the shortest wait of all.
        """
        pool = self._pools[state.model]
        if state.refusals:
            self._metrics.refusals.labels(state.model).inc()
        if state.refusals or state.lost_at is not None:
            return (await pool.choose(state)).song()
        return (await self._when_loaded(pool, state)).song()

    async def _when_loaded(self, pool: Pool, song: ResumeState | None = None) -> Server:
        clock = asyncio.get_running_loop().time
        deadline = clock() + self._settings.load_timeout
        while True:
            try:
                return await pool.choose(song)
            except ModelLoading:
                if clock() > deadline:
                    raise
            await asyncio.sleep(self._settings.poll_interval)

    async def _states(self) -> list[tuple[Variant, Status]]:
        statuses = await asyncio.gather(*(pool.status() for pool in self._pools.values()))
        return list(zip(await self.catalogue(), statuses, strict=True))
