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
import signal
import sys
from contextlib import suppress
from pathlib import Path
from secrets import token_urlsafe

from gateway.settings import GatewaySettings
from supervisor import ports, shared_memory, tritonserver
from supervisor.process import Process, adopt_orphans, reap_orphans
from supervisor.settings import PROJECT, TritonSettings

GRACE = 8.0  # seconds
POLL_INTERVAL = 1.0  # seconds


def log(line: str) -> None:
    with suppress(OSError):  # the terminal is gone
        print(f"service: {line}", flush=True)


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


async def kill_at_next(signals: asyncio.Queue[signal.Signals], processes: list[Process]) -> None:
    await signals.get()
    for process in processes:
        process.kill()


async def stop(gateway: Process, triton: Process, drain: float) -> None:
    """Stops the gateway first, because its running songs need Triton."""
    await gateway.stop(drain + GRACE)
    await triton.stop(GRACE)


def program_environment(settings: TritonSettings, admin_key: str) -> dict[str, str]:
    """The environment of the programs, which run in the project's folder."""
    environment = {
        **os.environ,
        "TRITON_GRPC": settings.grpc_address,
        "TRITON_ADMIN_KEY": admin_key,
    }
    environment.pop("TRITON_ADMIN_KEY_FILE", None)  # the gateway refuses both
    if keys := environment.get("API_KEYS_FILE", "").strip():
        environment["API_KEYS_FILE"] = str(Path(keys).absolute())
    return environment


async def serve(
    settings: TritonSettings,
    gateway_settings: GatewaySettings,
    server: tritonserver.TritonServer,
    environment: dict[str, str],
) -> None:
    triton = Process(
        "Triton",
        server.command(settings, environment["TRITON_ADMIN_KEY"]),
        server.environment(environment),
        log,
        on_exit=shared_memory.clean,
    )
    gateway = Process("gateway", [sys.executable, "-m", "gateway"], environment, log)
    processes = [triton, gateway]
    signals: asyncio.Queue[signal.Signals] = asyncio.Queue()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        asyncio.get_running_loop().add_signal_handler(number, signals.put_nowait, number)

    running = asyncio.gather(*(process.keep_running() for process in processes))
    logging = asyncio.create_task(log_ready(gateway_settings, processes))
    reaping = asyncio.create_task(reap_orphans(processes))
    await signals.get()
    logging.cancel()
    log("stopping (Ctrl-C again: at once)")
    stopping = asyncio.gather(running, stop(gateway, triton, gateway_settings.drain_timeout))
    killing = asyncio.create_task(kill_at_next(signals, processes))
    await stopping
    killing.cancel()
    reaping.cancel()
    log("stopped")


def main() -> None:
    try:
        server, settings = tritonserver.check(os.environ)
        gateway = GatewaySettings.from_environment(os.environ)
        ports.check(settings, gateway)
    except ValueError as error:
        sys.exit(f"service: {error}")
    shared_memory.clean_stale()
    adopt_orphans()
    environment = program_environment(settings, gateway.triton_admin_key or token_urlsafe())
    os.chdir(PROJECT)  # where gateway and stubs find our code, whatever PYTHONPATH says
    asyncio.run(serve(settings, gateway, server, environment))


if __name__ == "__main__":
    main()
