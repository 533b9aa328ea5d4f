"""Requests a song, saves it while it arrives, plays it if ffplay is there, and shows its progress.

python examples/listen.py "slow sad piano with soft drums" --duration 20
"""

import argparse
import json
import os
import sys
import threading
from contextlib import suppress
from pathlib import Path
from subprocess import PIPE, Popen
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen


def show_progress(url: str) -> None:
    """Shows the song's progress until it ends."""
    events = Request(url, headers={**headers, "Accept": "text/event-stream"})
    with suppress(OSError), urlopen(events) as f:
        for now in (json.loads(line[6:]) for line in f if line.startswith(b"data: ")):
            made = f"{now['state']}: {now['seconds']:.0f} of {now['total_seconds'] or 0:.0f} s"
            sys.stderr.write(f"\r{made}, {now['seconds_left'] or 0:.0f} s left   ")


parser = argparse.ArgumentParser()
parser.add_argument("prompt")
parser.add_argument("--duration", type=float, default=10, help="seconds")
parser.add_argument("--out", default="song.wav")
parser.add_argument("--server", default="http://localhost:8001")
arguments = parser.parse_args()
request_id = os.urandom(8).hex()
body = json.dumps({"prompt": arguments.prompt, "duration": arguments.duration}).encode()
# Not an argument, because every user of the machine can read those.
key = "Bearer " + os.environ.get("API_KEY", "")
headers = {"Content-Type": "application/json", "X-Request-Id": request_id, "Authorization": key}
address = f"{arguments.server}/generations/{request_id}?wait=5"  # it may come before the song
progress = threading.Thread(target=show_progress, args=[address], daemon=True)
progress.start()
player = None
with suppress(FileNotFoundError):
    player = Popen(["ffplay", "-autoexit", "-nodisp", "-v", "error", "-"], 0, stdin=PIPE).stdin
try:
    song = urlopen(Request(f"{arguments.server}/generate", body, headers))
    with song, Path(arguments.out).open("wb") as file:
        while chunk := song.read1(65_536):
            file.write(chunk)
            if player:
                with suppress(BrokenPipeError):  # the player is closed or has no loudspeaker
                    player.write(chunk)
except HTTPError as error:
    sys.exit("\n" + json.load(error)["error"]["message"])
except URLError as error:
    sys.exit(f"\nno server at {arguments.server}: {error.reason}")
except ConnectionError:
    sys.exit("\nthe song broke off")
if song.length:
    sys.exit("\nthe song broke off")
progress.join(5)  # its last line
print(f"\n{arguments.out}: seed {song.headers['X-Seed']}", file=sys.stderr)
