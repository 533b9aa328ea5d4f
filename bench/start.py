"""How long from `make serve` to the first WAV: `python -m bench.start [--fresh]`.

A warm start is bound by imports: torch, transformers and audiocraft take most of it, in one
process and so on one core. A fresh one (a clone in an empty folder, with an environment of its
own) is bound by the download and unpacking of the wheels.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path

from bench import machine

PROJECT = Path(__file__).parent.parent
PORT = 8761
PORTS = {
    "PORT": PORT,
    "TRITON_HTTP_PORT": PORT + 1,
    "TRITON_GRPC_PORT": PORT + 2,
    "TRITON_METRICS_PORT": PORT + 3,
}
LIMIT = 1800  # seconds
SONG = {"model": "musicgen-tiny", "prompt": "slow sad piano", "duration": 1}


def first_wav(folder: Path) -> dict[str, float]:
    """Seconds from the start of the service in `folder` until it answers, is ready, and plays."""
    environment = {**os.environ, **{name: str(port) for name, port in PORTS.items()}}
    began = time.monotonic()
    service = subprocess.Popen(
        ["make", "-s", "serve"], cwd=folder, env=environment, stdout=subprocess.DEVNULL
    )
    try:
        seconds = {}
        for name, attempt in (("page", page), ("ready", ready), ("first WAV", song)):
            while not attempt():
                if service.poll() is not None or time.monotonic() - began > LIMIT:
                    raise SystemExit("the service does not start")
                time.sleep(0.05)
            seconds[name] = round(time.monotonic() - began, 1)
        return seconds
    finally:
        service.send_signal(signal.SIGTERM)
        service.wait()


def page() -> bool:
    return answers("/")


def ready() -> bool:
    return answers("/readyz")


def song() -> bool:
    return answers("/generate", json.dumps(SONG).encode())


def answers(path: str, body: bytes | None = None) -> bool:
    url, headers = f"http://127.0.0.1:{PORT}{path}", {"Content-Type": "application/json"}
    try:
        with urllib.request.urlopen(urllib.request.Request(url, body, headers)) as answer:
            answer.read()
            return True
    except OSError:
        return False


def fresh() -> dict[str, float]:
    with tempfile.TemporaryDirectory() as folder:
        clone = Path(folder) / "clone"
        subprocess.run(["git", "clone", "-q", PROJECT, clone], check=True)
        return first_wav(clone)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument(
        "--fresh", action="store_true", help="a clone, its environment from nothing"
    )
    runs: list[Callable[[], dict[str, float]]] = [lambda: first_wav(PROJECT)] * 3
    if parser.parse_args().fresh:
        runs = [fresh]
    results = [run() for run in runs]
    print(*(f"{name:>12}" for name in results[0]))
    for result in results:
        print(*(f"{seconds:10.1f} s" for seconds in result.values()))
    print(json.dumps({"bench": "start", "hardware": machine.name(), "seconds": results}))


if __name__ == "__main__":
    main()
