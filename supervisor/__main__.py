"""`python -m supervisor`: starts the service and keeps it running until Ctrl-C.

    supervisor ─┬─ tritonserver ── a stub for each model ── its engine
                └─ gateway

Says one line for each event. At the end the gateway gets `GRACE` seconds, and DRAIN_TIMEOUT besides
while songs run; then Triton gets `GRACE` seconds. Whoever takes longer is killed with all that it
started. A second Ctrl-C kills at once.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from contextlib import suppress
from pathlib import Path
from secrets import token_urlsafe

from gateway.settings import Settings as GatewaySettings
from protocol.settings import Settings as EngineSettings
from supervisor import orphans, ports, shared_memory
from supervisor.process import Process
from supervisor.settings import PROJECT, Settings
from supervisor.tritonserver import TritonServer

GRACE = 8.0  # seconds
POLL = 1.0  # seconds


def say(line: str) -> None:
    with suppress(OSError):  # the terminal is gone
        print(f"service: {line}", flush=True)


async def ready(gateway: GatewaySettings) -> bool:
    """Whether the gateway says that its default model can serve."""
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


async def announce(gateway: GatewaySettings, processes: list[Process]) -> None:
    """Says when the service is ready, after every start of one of its programs."""
    announced = 0
    while True:
        starts = sum(process.starts for process in processes)
        if starts > announced and await ready(gateway):
            say(f"ready: {gateway.url}")
            announced = starts
        await asyncio.sleep(POLL)


async def kill_at_next(signals: asyncio.Queue[signal.Signals], processes: list[Process]) -> None:
    await signals.get()
    for process in processes:
        process.kill()


async def stop(gateway: Process, triton: Process, drain: float) -> None:
    """The gateway first, which lets running songs end: they need Triton."""
    await gateway.stop(drain + GRACE)
    await triton.stop(GRACE)


def environment_of(settings: Settings, admin_key: str) -> dict[str, str]:
    """The programs', which run in the project's folder, whatever ours is."""
    environment = {
        **os.environ,
        "TRITON_GRPC": settings.triton_grpc,
        "TRITON_ADMIN_KEY": admin_key,
    }
    environment.pop("TRITON_ADMIN_KEY_FILE", None)  # its key is there already
    if keys := environment.get("API_KEYS_FILE", "").strip():
        environment["API_KEYS_FILE"] = str(Path(keys).absolute())
    return environment


async def serve(
    settings: Settings,
    gateway_settings: GatewaySettings,
    server: TritonServer,
    environment: dict[str, str],
) -> None:
    triton = Process(
        "Triton",
        server.command(settings, shared_memory.prefix(), environment["TRITON_ADMIN_KEY"]),
        server.environment(environment),
        say,
        clean=shared_memory.clean,
    )
    gateway = Process("gateway", [sys.executable, "-m", "gateway"], environment, say)
    processes = [triton, gateway]
    signals: asyncio.Queue[signal.Signals] = asyncio.Queue()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        asyncio.get_running_loop().add_signal_handler(number, signals.put_nowait, number)

    running = asyncio.gather(*(process.keep_running() for process in processes))
    announcing = asyncio.create_task(announce(gateway_settings, processes))
    burying = asyncio.create_task(
        orphans.bury(lambda pid: any(process.pid == pid for process in processes))
    )
    await signals.get()
    announcing.cancel()
    say("stopping (Ctrl-C again: at once)")
    stopping = asyncio.gather(running, stop(gateway, triton, gateway_settings.drain_timeout))
    impatience = asyncio.create_task(kill_at_next(signals, processes))
    await stopping
    impatience.cancel()
    burying.cancel()
    say("stopped")


def main() -> None:
    try:
        settings = Settings.of(os.environ)
        # What they would refuse, over and over.
        gateway = GatewaySettings.from_environment(os.environ)
        EngineSettings.of(os.environ)
        server = TritonServer.find()
        ports.check(settings, gateway)
    except ValueError as error:
        sys.exit(f"service: {error}")
    shared_memory.clean_stale()
    orphans.adopt()
    environment = environment_of(settings, gateway.triton_admin_key or token_urlsafe())
    # The gateway and, whatever PYTHONPATH says, Triton's stubs find our code here.
    os.chdir(PROJECT)
    asyncio.run(serve(settings, gateway, server, environment))


if __name__ == "__main__":
    main()
