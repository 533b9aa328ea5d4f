"""The addresses of servers, by their names in DNS."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Awaitable, Callable, Collection
from typing import TypeAlias

from gateway.settings import Address

log = logging.getLogger(__name__)

Resolve: TypeAlias = Callable[[str, int], Awaitable[Collection[str]]]


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


class Addresses:
    """Those of all servers of a pool, which has one name or several."""

    def __init__(self, names: Collection[Address], resolve: Resolve) -> None:
        self._resolve = resolve
        self._found: dict[Address, Collection[str]] = dict.fromkeys(names, ())

    async def look_up(self) -> set[str]:
        """A name keeps its addresses when DNS does not answer, but not when DNS knows none."""
        for name in self._found:
            try:
                self._found[name] = await self._resolve(*name)
            except socket.gaierror as error:
                if error.errno in (socket.EAI_NONAME, socket.EAI_NODATA):
                    self._found[name] = ()
                else:
                    log.warning("%s cannot be looked up: %s", name[0], error.strerror)
        return {address for found in self._found.values() for address in found}
