"""Asks for a song, saves it while it comes, plays it where ffplay is, and shows how far it is.

python examples/listen.py "slow sad piano with soft drums" --duration 20
"""

import argparse
import json
import os
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path
from subprocess import PIPE, Popen
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen


def follow(url: str) -> None:
    """Shows the song's progress, from when the server knows of it to its end."""
    while True:
        time.sleep(0.1)
        events = Request(url, headers={**headers, "Accept": "text/event-stream"})
        with suppress(OSError), urlopen(events) as f:
            for now in (json.loads(line[6:]) for line in f if line.startswith(b"data: ")):
                made = f"{now['state']}: {now['seconds']:.0f} of {now['total_seconds']:.0f} s"
                sys.stderr.write(f"\r{made}, {now['seconds_left'] or 0:.0f} s left   ")
            return


parser = argparse.ArgumentParser()
parser.add_argument("prompt")
parser.add_argument("--duration", type=float, default=10, help="seconds")
parser.add_argument("--out", default="song.wav")
parser.add_argument("--server", default="http://localhost:8001")
asked, name, player = parser.parse_args(), os.urandom(8).hex(), None
wanted = {"prompt": asked.prompt, "duration": asked.duration}
bearer = "Bearer " + os.environ.get("API_KEY", "")  # no argument: those are read by anybody
headers = {"Content-Type": "application/json", "X-Request-Id": name, "Authorization": bearer}
threading.Thread(target=follow, args=[f"{asked.server}/generations/{name}"], daemon=True).start()
with suppress(FileNotFoundError):
    player = Popen(["ffplay", "-autoexit", "-nodisp", "-v", "error", "-"], 0, stdin=PIPE).stdin
try:
    song = urlopen(Request(f"{asked.server}/generate", json.dumps(wanted).encode(), headers))
    with song, Path(asked.out).open("wb") as file:
        while piece := song.read1(65_536):
            file.write(piece)
            if player:
                with suppress(BrokenPipeError):  # closed, or without a speaker: the file goes on
                    player.write(piece)
except HTTPError as error:
    sys.exit("\n" + json.load(error)["error"]["message"])
except URLError as error:
    sys.exit(f"\nno server at {asked.server}: {error.reason}")
except ConnectionError:
    sys.exit("\nthe song broke off")
if song.length:
    sys.exit("\nthe song broke off")
print(f"\n{asked.out}: seed {song.headers['X-Seed']}", file=sys.stderr)
