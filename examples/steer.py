"""Plays a song, with ffplay if it is there, that follows the lines which you type meanwhile.

python examples/steer.py "calm piano" --duration 60
"""

import argparse
import json
import os
import sys
import threading
from contextlib import suppress
from pathlib import Path
from subprocess import PIPE, Popen
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

parser = argparse.ArgumentParser()
parser.add_argument("prompt")
parser.add_argument("--duration", type=float, default=60, help="seconds")
parser.add_argument("--out", default="song.wav")
parser.add_argument("--server", default="http://localhost:8001")
arguments = parser.parse_args()
name, key = os.urandom(8).hex(), "Bearer " + os.environ.get("API_KEY", "")


def ask(method: str, path: str, body: dict[str, Any]) -> Any:
    headers = {"Content-Type": "application/json", "X-Request-Id": name, "Authorization": key}
    data = json.dumps(body).encode()
    return urlopen(Request(arguments.server + path, data, headers, method=method))


def steer() -> None:
    for line in filter(None, map(str.strip, sys.stdin)):
        try:
            change = json.load(ask("PATCH", f"/generations/{name}?wait=5", {"prompt": line}))
            print(f"from {change['changed_at']:.1f} s on: {line}", flush=True)
        except HTTPError as error:
            print(json.load(error)["error"]["message"], flush=True)


body = {"prompt": arguments.prompt, "duration": arguments.duration, "pace": "playback"}
player = None
with suppress(FileNotFoundError):
    player = Popen(["ffplay", "-autoexit", "-nodisp", "-v", "error", "-"], 0, stdin=PIPE).stdin
try:
    song = ask("POST", "/generate", body)
    threading.Thread(target=steer, daemon=True).start()
    with song, Path(arguments.out).open("wb") as file:
        while chunk := song.read1(65_536):
            file.write(chunk)
            with suppress(BrokenPipeError):
                player and player.write(chunk)
except HTTPError as error:
    sys.exit(json.load(error)["error"]["message"])
except URLError as error:
    sys.exit(f"no server at {arguments.server}: {error.reason}")
except ConnectionError:
    sys.exit("the song broke off")
if song.length:
    sys.exit("the song broke off")
