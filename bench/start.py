"""Measures the time from `make serve` to the first WAV: `python -m bench.start [--fresh]`.

The limit of a start of an installed service is imports: torch, transformers and audiocraft take
most of its time, in one process and so on one core. The limit of a fresh one (a clone in an empty
folder, with an environment of its own) is the download and unpacking of the wheels. Prints a table,
then one line of JSON.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import tempfile
import time
import urllib.request
from pathlib import Path

from bench.report import Table, hardware

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
# The requests, repeated until each succeeds: path and body.
REQUESTS = {
    "page": ("/", None),
    "ready": ("/readyz", None),
    "first WAV": ("/generate", json.dumps(SONG).encode()),
}


def start(folder: Path) -> dict[str, float]:
    """Seconds from the start of the service in `folder` to the success of each request."""
    environment = {**os.environ, **{name: str(port) for name, port in PORTS.items()}}
    began = time.monotonic()
    service = subprocess.Popen(
        ["make", "-s", "serve"], cwd=folder, env=environment, stdout=subprocess.DEVNULL
    )
    try:
        seconds = {}
        for name, (path, body) in REQUESTS.items():
            while not succeeds(path, body):
                if service.poll() is not None or time.monotonic() - began > LIMIT:
                    raise SystemExit("the service does not start")
                time.sleep(0.05)
            seconds[name] = round(time.monotonic() - began, 1)
        return seconds
    finally:
        service.send_signal(signal.SIGTERM)
        service.wait()


def succeeds(path: str, body: bytes | None) -> bool:
    url, headers = f"http://127.0.0.1:{PORT}{path}", {"Content-Type": "application/json"}
    try:
        with urllib.request.urlopen(urllib.request.Request(url, body, headers)) as response:
            response.read()
            return True
    except OSError:
        return False


def start_fresh() -> dict[str, float]:
    with tempfile.TemporaryDirectory() as folder:
        clone = Path(folder) / "clone"
        subprocess.run(["git", "clone", "-q", PROJECT, clone], check=True)
        return start(clone)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument(
        "--fresh", action="store_true", help="a clone with a new environment instead"
    )
    fresh = parser.parse_args().fresh
    table = Table("Seconds from make serve")
    for _ in range(1 if fresh else 3):
        table.add(start_fresh() if fresh else start(PROJECT))
    print(json.dumps({"bench": "start", "hardware": hardware(), "seconds": table.rows}))


if __name__ == "__main__":
    main()
