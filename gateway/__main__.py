"""Run the gateway: python -m gateway."""

from __future__ import annotations

import logging
import os
import sys

from aiohttp import web

from gateway import logs
from gateway.app import create_app
from gateway.settings import GatewaySettings
from protocol.settings import SettingsError

log = logging.getLogger("gateway")


def main() -> None:
    try:
        settings = GatewaySettings.from_environment(os.environ)
    except SettingsError as error:
        sys.exit(_refuse(str(error)))
    logging.basicConfig(level=logging.INFO, handlers=[logs.handler(settings.log_format)])
    run(create_app(settings), settings)


def run(app: web.Application, settings: GatewaySettings) -> None:
    """Serve until a signal. Running songs then have DRAIN_TIMEOUT to end."""
    try:
        web.run_app(
            app,
            host=settings.host,
            port=settings.port,
            shutdown_timeout=settings.drain_timeout / 2,  # aiohttp waits this long twice
            handler_cancellation=True,
            access_log=None,
            print=lambda _: log.info("listening on http://%s:%d", settings.host, settings.port),
        )
    except OSError as error:
        sys.exit(_refuse(f"HOST={settings.host} PORT={settings.port} cannot be used: {error}"))


def _refuse(line: str) -> int:
    print(f"gateway: {line}", file=sys.stderr)
    return 2


if __name__ == "__main__":
    main()
