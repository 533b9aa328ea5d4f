"""`python -m supervisor`: starts the service and keeps it running until Ctrl-C.

    supervisor ─┬─ tritonserver ── a stub for each model ── its engine
                └─ gateway

Prints one line for each event. On Ctrl-C it stops the gateway, which has `GRACE` seconds and up to
DRAIN_TIMEOUT more for running songs, and then Triton, which has `GRACE` seconds. It kills a program
that takes longer with all its descendants. A second Ctrl-C kills both at once.
"""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path
from secrets import token_urlsafe

from gateway.settings import GatewaySettings
from protocol.settings import SettingsError
from supervisor import ports, tritonserver
from supervisor.process import GRACE, Process
from supervisor.settings import PROJECT, TritonSettings
from supervisor.supervision import log, supervise

POLL_INTERVAL = 1.0  # seconds


async def is_ready(gateway: GatewaySettings) -> bool:
    """Whether the gateway reports that its default model can serve."""
    writer = None
    try:
        reader, writer = await asyncio.open_connection(gateway.host, gateway.port)
        writer.write(b"GET /readyz HTTP/1.0\r\n\r\n")
        return b" 200 " in await asyncio.wait_for(reader.readline(), 10)
    except (OSError, asyncio.TimeoutError):
        return False
    finally:
        if writer:
            writer.close()


async def log_ready(gateway: GatewaySettings, processes: list[Process]) -> None:
    """Logs each time that the service is ready after a start of a program."""
    logged = 0
    while True:
        starts = sum(process.starts for process in processes)
        if starts > logged and await is_ready(gateway):
            log(f"ready: {gateway.url}")
            logged = starts
        await asyncio.sleep(POLL_INTERVAL)


def program_environment(settings: TritonSettings, admin_key: str) -> dict[str, str]:
    """The environment of the programs, which run in the project's folder."""
    environment = {
        **os.environ,
        "TRITON_GRPC": settings.grpc_address,
        "TRITON_ADMIN_KEY": admin_key,
    }
    environment.pop("TRITON_ADMIN_KEY_FILE", None)  # the gateway refuses both
    for name in ("API_KEYS_FILE", "TRITON_TLS"):
        if path := environment.get(name, "").strip():
            environment[name] = str(Path(path).absolute())
    return environment


def main() -> None:
    try:
        if os.environ.get("TRITON_POOLS", "").strip():
            raise SettingsError(
                "TRITON_POOLS is for a gateway alone: unset it for the Triton of this service, "
                "or run python -m gateway"
            )
        server, settings = tritonserver.check(os.environ)
        own = {**os.environ, "TRITON_GRPC": settings.grpc_address}
        gateway_settings = GatewaySettings.from_environment(own)
        ports.check(settings, gateway_settings)
    except ValueError as error:
        sys.exit(f"service: {error}")
    admin_key = gateway_settings.triton_admin_key or token_urlsafe()
    environment = program_environment(settings, admin_key)
    os.chdir(PROJECT)  # where gateway and stubs find our code, whatever PYTHONPATH says
    triton = tritonserver.process(server, settings, admin_key, environment)
    command = [sys.executable, "-m", "gateway"]
    gateway = Process("gateway", command, environment, log, gateway_settings.drain_timeout + GRACE)
    processes = [triton, gateway]
    asyncio.run(supervise(processes, log_ready(gateway_settings, processes)))


if __name__ == "__main__":
    main()
