"""Run the gateway: python -m gateway."""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import signal
import sys
import warnings

from aiohttp import BadContentDispositionHeader, BadContentDispositionParam, web

from gateway import logs
from gateway.app import create_app
from gateway.connection import Runner
from gateway.settings import GatewaySettings
from protocol import tracing
from protocol.settings import SettingsError

log = logging.getLogger("gateway")


def main() -> None:
    try:
        settings = GatewaySettings.from_environment(os.environ)
    except SettingsError as error:
        sys.exit(_refuse(str(error)))
    logging.basicConfig(level=logging.INFO, handlers=[logs.handler(settings.log_format)])
    tracing.configure("gateway", settings.collector)
    run(create_app(settings), settings)


def run(app: web.Application, settings: GatewaySettings) -> None:
    """Serve until a signal. Running songs then have DRAIN_TIMEOUT to end; a second signal ends the
    process at once."""
    for kind in (BadContentDispositionHeader, BadContentDispositionParam):
        warnings.simplefilter("ignore", kind)  # they have names of files; Python keeps each of them
    try:
        asyncio.run(_serve(app, settings))
    except OSError as error:
        sys.exit(_refuse(f"HOST={settings.host} PORT={settings.port} cannot be used: {error}"))


async def _serve(app: web.Application, settings: GatewaySettings) -> None:
    runner = Runner(app, shutdown_timeout=settings.drain_timeout / 2)  # aiohttp waits so long twice
    await runner.setup()
    try:
        site = web.TCPSite(runner, settings.host, settings.port)
        await site.start()
        if settings.host == "127.0.0.1":  # `localhost` means ::1, too
            try:
                await web.TCPSite(runner, "::1", settings.port).start()
            except OSError as error:
                if error.errno == errno.EADDRINUSE:
                    raise
                log.info("this machine has no IPv6")
        log.info("listening on %s", site.name)
        loop, stop = asyncio.get_running_loop(), asyncio.Event()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, stop.set)
        await stop.wait()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.remove_signal_handler(number)
    finally:
        await runner.cleanup()


def _refuse(line: str) -> int:
    print(f"gateway: {line}", file=sys.stderr)
    return 2


if __name__ == "__main__":
    main()
