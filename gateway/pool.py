"""The choice of a server for each song, where several Triton servers hold the same model.

A pool is a name that resolves to the addresses of its servers. They hold the model already: the
gateway loads and unloads nothing there. For each song it asks three of them for their status and
takes the emptiest; that balances nearly as well as asking all, at a cost that does not grow with
the pool (`python -m bench.fleet`).
"""

from __future__ import annotations

import asyncio
import logging
import random
import socket
from collections.abc import Awaitable, Callable, Collection, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Protocol, TypeVar

from gateway.cached import Cached
from gateway.contract import TRANSIENT, Failed, Loading, Ready, Status, Triton
from gateway.metrics import Metrics
from gateway.resume_state import ResumeState
from gateway.settings import Address, GatewaySettings
from protocol.errors import (
    EngineUnavailable,
    ModelLoading,
    ServiceError,
    TritonUnavailable,
    WeightsChanged,
)
from protocol.variant import UNKNOWN, Variant

log = logging.getLogger(__name__)

ASKED = 3  # servers for a song
REFUSALS = 3  # servers that may refuse a song before its client hears of it
ASK_TIMEOUT = 2.0  # seconds for a STATUS, which takes some milliseconds
# When no server takes a song, the error of the one that may take it soonest.
SOONEST = (ModelLoading, TritonUnavailable, EngineUnavailable, ServiceError)

Resolve = Callable[[str, int], Awaitable[Collection[str]]]


class Load(Protocol):
    @property
    def load(self) -> float: ...


Loaded = TypeVar("Loaded", bound=Load)
T = TypeVar("T")


def asked(servers: Sequence[T], rng: random.Random, count: int = ASKED) -> list[T]:
    """The servers to ask for a song."""
    return rng.sample(servers, min(count, len(servers)))


def emptiest(servers: Collection[Loaded]) -> Loaded:
    """The server for a song, of those that were asked, in random order."""
    return min(servers, key=lambda server: server.load)


async def resolve(host: str, port: int) -> Collection[str]:
    """The addresses of a name. Those of IPv4 if there are any, for a server may have both kinds.

    Raises:
        OSError: as `getaddrinfo`.
    """
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    families = {family for family, *_ in found}
    chosen = socket.AF_INET if socket.AF_INET in families else socket.AF_INET6
    hosts = {str(address[0]) for family, *_, address in found if family is chosen}
    return {f"[{host}]:{port}" if ":" in host else f"{host}:{port}" for host in hosts}


@dataclass(eq=False)
class Server:
    """A server of a pool. `status` is the last that is known. `songs` are those of this gateway,
    `others` those of other gateways; it generates as many at a time as it has `slots`."""

    model: str
    address: str
    triton: Triton
    status: Status = field(default_factory=Loading)
    songs: int = 0
    others: int = 0
    slots: int = 1

    @property
    def load(self) -> float:
        """Songs for each slot."""
        return (self.songs + self.others) / self.slots

    @property
    def is_ready(self) -> bool:
        return isinstance(self.status, Ready)

    def takes(self, revision: str | None) -> bool:
        """Whether it takes a song that began with these weights; None for a new one."""
        return isinstance(self.status, Ready) and revision in (None, self.status.revision)

    @property
    def problem(self) -> ServiceError | None:
        """The reason why it takes no song."""
        if isinstance(self.status, Loading):
            return self.status.error(self.model)
        return self.status.error if isinstance(self.status, Failed) else None

    async def ask(self) -> None:
        """Ask for its status. It has the songs that it had when it was asked, and some of this
        gateway's may have begun or ended since."""
        before = self.songs
        try:
            status = await asyncio.wait_for(self.triton.status(self.model), ASK_TIMEOUT)
        except asyncio.TimeoutError:
            silent = TritonUnavailable("The music server does not answer; try again soon.")
            self.set(Failed(silent))
        except ServiceError as error:
            self.set(Failed(error))
        else:
            if isinstance(status, Ready):
                self.others, self.slots = max(0, status.songs - before), max(1, status.slots)
            self.set(status)

    def set(self, status: Status) -> None:
        before, self.status = self.problem, status
        if str(before) != str(self.problem):
            text = f"takes no songs: {self.problem}" if self.problem else "takes songs"
            level = logging.WARNING if self.problem else logging.INFO
            log.log(level, "%s at %s %s", self.model, self.address, text)

    @contextmanager
    def song(self) -> Iterator[Triton]:
        """Give it a song inside the block."""
        self.songs += 1
        try:
            yield self.triton
        except TRANSIENT as error:
            self.set(Failed(error))
            raise
        finally:
            self.songs -= 1


class Pool:
    """The servers of one model."""

    def __init__(
        self,
        model: str,
        addresses: Collection[Address],
        settings: GatewaySettings,
        metrics: Metrics,
        connect: Callable[[str], Triton],
        resolve: Resolve,
    ) -> None:
        self.variant = Variant(model, None, UNKNOWN, UNKNOWN)  # until a server describes it
        self.known = asyncio.Event()  # set when the servers are known
        self._model = model
        self._resolved: dict[Address, Collection[str]] = dict.fromkeys(addresses, ())
        self._interval = settings.resolve_interval
        self._connect = connect
        self._resolve = resolve
        self._servers: dict[str, Server] = {}
        self._leaving: dict[Server, asyncio.Task[None]] = {}
        self._rng = random.Random()
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

    async def choose(
        self, revision: str | None = None, refusals: Collection[Triton] = ()
    ) -> Server:
        """A server that takes a song, and has not refused it. Raise the reason if there is none."""
        await self.known.wait()
        servers = [one for one in self._servers.values() if one.triton not in refusals]
        some = asked([one for one in servers if one.is_ready], self._rng)
        for group in (some, [one for one in servers if one not in some]):
            await asyncio.gather(*(server.ask() for server in group))
            if able := [server for server in group if server.takes(revision)]:
                await self._describe(able)
                return emptiest(able)
        problems = [server.problem for server in servers if server.problem]
        if not servers:
            problems = [EngineUnavailable(f"No server of {self._model!r} runs; try again soon.")]
        elif not problems:
            problems = [WeightsChanged("No server has the weights with which the song began.")]
        raise min(problems, key=_order)

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
        """Take new servers in, leave those that are gone, and ask those that took no songs."""
        for name in self._resolved:
            await self._look_up(name)
        current = {server for found in self._resolved.values() for server in found}
        came, gone = current - self._servers.keys(), self._servers.keys() - current
        for address in sorted(gone):
            server = self._servers.pop(address)
            log.info("%s at %s gets no new songs: its name is gone", self._model, address)
            self._leaving[server] = asyncio.create_task(self._leave(server))
        for address in sorted(came):
            self._servers[address] = Server(self._model, address, self._connect(address))
        if not self._servers and (gone or not self.known.is_set()):
            log.warning("no server of %s runs: its name has no address", self._model)
        away = [server for server in self._servers.values() if not server.is_ready]
        await asyncio.gather(*(server.ask() for server in away))
        await self._describe([*self._servers.values()])

    async def _look_up(self, name: Address) -> None:
        """Keep the servers when DNS does not answer, but not when it knows none."""
        try:
            self._resolved[name] = await self._resolve(*name)
        except socket.gaierror as error:
            if error.errno in (socket.EAI_NONAME, socket.EAI_NODATA):
                self._resolved[name] = ()
            else:
                log.warning("%s cannot be looked up: %s", name[0], error.strerror)

    async def _describe(self, servers: Sequence[Server]) -> None:
        """Let one of the servers describe the model, if none has."""
        for server in asked(servers, self._rng):
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
            model: Pool(model, addresses, settings, metrics, connect, resolve)
            for model, addresses in settings.triton_pools.items()
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
        """The emptiest server that takes the song. One that broke off goes on with its own weights
        alone.

        Raises as `ensure_ready`, or the refusal with the shortest wait.
        """
        pool = self._pools[state.model]
        if state.refusals:
            self._metrics.refusals.labels(state.model).inc()
            soonest = min(state.refusals.values(), key=lambda error: error.retry_after or 0)
            if len(state.refusals) >= REFUSALS:
                raise soonest
            try:
                return (await pool.choose(state.revision, state.refusals)).song()
            except ServiceError:
                raise soonest from None
        if state.lost_at is None:
            return (await self._when_loaded(pool)).song()
        return (await pool.choose(state.revision)).song()

    async def _when_loaded(self, pool: Pool) -> Server:
        clock = asyncio.get_running_loop().time
        deadline = clock() + self._settings.load_timeout
        while True:
            try:
                return await pool.choose()
            except ModelLoading:
                if clock() > deadline:
                    raise
            await asyncio.sleep(self._settings.poll_interval)

    async def _states(self) -> list[tuple[Variant, Status]]:
        statuses = await asyncio.gather(*(pool.status() for pool in self._pools.values()))
        return list(zip(await self.catalogue(), statuses, strict=True))


def _order(error: ServiceError) -> int:
    return next(place for place, kind in enumerate(SOONEST) if isinstance(error, kind))
