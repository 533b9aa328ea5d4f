"""The servers of one model, and the choice of one for each song.

For each song the pool asks three servers for their status and takes the emptiest; that balances
nearly as well as asking all, at a cost that does not grow with the pool (`python -m bench.fleet`).
Only if none of them takes the song, it asks all, once a second for all songs.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable, Collection, Iterable, Sequence
from contextlib import suppress
from functools import partial
from typing import Protocol, TypeVar

from gateway.addresses import Addresses, Resolve
from gateway.cached import Cached
from gateway.contract import Failed, Loading, Ready, Status, Triton
from gateway.metrics import Metrics
from gateway.resume_state import ResumeState
from gateway.server import ASK_TIMEOUT, Server
from gateway.settings import Address, GatewaySettings
from protocol.errors import (
    EngineUnavailable,
    ModelLoading,
    QueueFull,
    ServiceError,
    SharedMemoryFull,
    TritonUnavailable,
    WeightsChanged,
)
from protocol.variant import UNKNOWN, Variant

log = logging.getLogger(__name__)

ASKED = 3  # servers for a song
REFUSALS = 3  # servers that may refuse a song before its client hears of it
# When no server takes a song, the error of the one that may take it soonest.
SOONEST = (
    QueueFull,
    SharedMemoryFull,
    ModelLoading,
    TritonUnavailable,
    EngineUnavailable,
    WeightsChanged,
    ServiceError,
)


class Load(Protocol):
    @property
    def load(self) -> float: ...


Loaded = TypeVar("Loaded", bound=Load)
T = TypeVar("T")


def sample(servers: Sequence[T], rng: random.Random, count: int = ASKED) -> list[T]:
    """Some of the servers, to ask them for a song."""
    return rng.sample(servers, min(count, len(servers)))


def emptiest(servers: Collection[Loaded]) -> Loaded:
    """The server for a song, of those that were asked, in random order."""
    return min(servers, key=lambda server: server.load)


class Pool:
    def __init__(
        self,
        model: str,
        names: Collection[Address],
        settings: GatewaySettings,
        metrics: Metrics,
        connect: Callable[[str], Triton],
        resolve: Resolve,
    ) -> None:
        self.variant = Variant(model, None, UNKNOWN, UNKNOWN)  # until a server describes it
        self.known = asyncio.Event()  # set when the servers are known
        self._model = model
        self._addresses = Addresses(names, resolve)
        self._interval = settings.resolve_interval
        self._connect = connect
        self._servers: dict[str, Server] = {}
        self._leaving: dict[Server, asyncio.Task[None]] = {}
        self._rng = random.Random()
        self._ask_all = Cached(self._ask, settings.survey_interval)
        self._watch = asyncio.create_task(self._keep_current())
        for state in ("ready", "unavailable", "leaving"):
            metrics.servers.labels(model, state).set_function(partial(self._count, state))
        metrics.revisions.labels(model).set_function(lambda: len(self._revisions()))

    async def close(self) -> None:
        tasks = [self._watch, *self._leaving.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        servers = (*self._servers.values(), *self._leaving)
        await asyncio.gather(*(server.triton.close() for server in servers))

    async def choose(self, song: ResumeState | None = None) -> Server:
        """A server that takes the song, and has not refused it; without a song, any that is ready.

        Raises:
            ServiceError: the reason of the server that may take it soonest; of all servers, or of
                those that refused it, if they are enough.
        """
        await self.known.wait()
        refusals = song.refusals if song else {}
        servers = [one for one in self._servers.values() if one.triton not in refusals]
        if len(refusals) < REFUSALS:
            some = sample([one for one in servers if one.is_ready], self._rng)
            await asyncio.gather(*(server.ask() for server in some))
            if not any(server.refusal(song) is None for server in some):
                await self._ask_all()
                some = sample(servers, self._rng, len(servers))
            if able := [server for server in some if server.refusal(song) is None]:
                await self._describe(able)
                return emptiest(able)
        raise self._soonest(refusals.values(), (server.refusal(song) for server in servers))

    def _soonest(
        self, refusals: Iterable[ServiceError], others: Iterable[ServiceError | None]
    ) -> ServiceError:
        none = EngineUnavailable(f"No server of {self._model!r} runs; try again soon.")
        return min((*refusals, *filter(None, others)), key=_order, default=none)

    async def status(self) -> Status:
        """Ready if any server is."""
        try:
            return (await self.choose()).status
        except ServiceError as error:
            return self.loading() or Failed(error)

    def loading(self) -> Loading | None:
        """The progress of the server that has loaded most, where none is ready."""
        statuses = [server.status for server in self._servers.values()]
        if any(isinstance(status, Ready) for status in statuses):
            return None
        loading = (status for status in statuses if isinstance(status, Loading))
        return max(loading, key=lambda status: status.bytes, default=None)

    async def _keep_current(self) -> None:
        while True:
            try:
                await self._refresh()
            except Exception:
                log.exception("the servers of %s cannot be looked up", self._model)
            self.known.set()
            await asyncio.sleep(self._interval)

    async def _refresh(self) -> None:
        """Take new servers in, leave those that are gone, and ask all: some get no songs now."""
        current = await self._addresses.look_up()
        came, gone = current - self._servers.keys(), self._servers.keys() - current
        for address in sorted(gone):
            server = self._servers.pop(address)
            log.info("%s at %s gets no new songs: its name is gone", self._model, address)
            self._leaving[server] = asyncio.create_task(self._leave(server))
        for address in sorted(came):
            self._servers[address] = Server(self._model, address, self._connect(address))
        if not self._servers and (gone or not self.known.is_set()):
            log.warning("no server of %s runs: its name has no address", self._model)
        await self._ask_all()
        servers = self._servers.values()
        await self._describe([one for one in servers if not isinstance(one.status, Failed)])

    async def _ask(self) -> None:
        await asyncio.gather(*(server.ask() for server in self._servers.values()))

    async def _describe(self, servers: Sequence[Server]) -> None:
        """Let one of the servers describe the model, if none has."""
        for server in sample(servers, self._rng):
            if self.variant.weights != UNKNOWN:
                return
            with suppress(ServiceError, asyncio.TimeoutError):
                variants = await asyncio.wait_for(server.triton.catalogue(), ASK_TIMEOUT)
                known = (one for one in variants if one.name == self._model)
                self.variant = next(known, self.variant)

    async def _leave(self, server: Server) -> None:
        """Let its songs end. A question to it may still be on its way."""
        while True:
            await asyncio.sleep(max(self._interval, ASK_TIMEOUT))
            if not server.songs:
                break
        del self._leaving[server]
        await server.triton.close()

    def _count(self, state: str) -> int:
        """The servers in a state of `Metrics.servers`."""
        if state == "leaving":
            return sum(server.songs > 0 for server in self._leaving)
        return sum(server.is_ready == (state == "ready") for server in self._servers.values())

    def _revisions(self) -> set[str]:
        statuses = (server.status for server in self._servers.values())
        return {status.revision for status in statuses if isinstance(status, Ready)}


def _order(error: ServiceError) -> tuple[int, int]:
    kind = next(place for place, kind in enumerate(SOONEST) if isinstance(error, kind))
    return kind, error.retry_after or 0
