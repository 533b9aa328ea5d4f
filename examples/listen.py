"""Asks for a song, saves it while it comes, plays it where ffplay is, and shows how far it is.

python examples/listen.py "slow sad piano with soft drums" --duration 20
"""

import argparse
import json
import shutil
import subprocess
import sys
import threading
import time
import uuid
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import Request, urlopen


def follow(url: str) -> None:
    """Shows the song's progress, from when the server knows of it to its end."""
    try:
        with urlopen(Request(url, headers={"Accept": "text/event-stream"})) as events:
            for line in filter(bytes.strip, events):
                now = json.loads(line.removeprefix(b"data: "))
                made = f"{now['seconds']:.0f} of {now['total_seconds']:.0f} s"
                left = f", {now['seconds_left'] or 0:.0f} s left"
                print(f"\r{now['state']}: {made}{left}   ", end="", file=sys.stderr)
    except HTTPError:
        time.sleep(0.1)
        follow(url)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("prompt")
    parser.add_argument("--duration", type=float, default=10, help="seconds")
    parser.add_argument("--out", default="song.wav")
    parser.add_argument("--server", default="http://localhost:8001")
    asked = parser.parse_args()
    name = str(uuid.uuid4())
    headers = {"Content-Type": "application/json", "X-Request-Id": name}
    song = json.dumps({"prompt": asked.prompt, "duration": asked.duration}).encode()
    watch = [f"{asked.server}/generations/{name}"]
    threading.Thread(target=follow, args=watch, daemon=True).start()
    command = ["ffplay", "-autoexit", "-nodisp", "-loglevel", "error", "-"]
    there = shutil.which("ffplay")
    playing = subprocess.Popen(command, stdin=subprocess.PIPE).stdin if there else None
    request = Request(f"{asked.server}/generate", song, headers)
    try:
        with urlopen(request) as wav, Path(asked.out).open("wb") as file:
            for piece in iter(lambda: wav.read1(65_536), b""):
                file.write(piece)
                if playing:
                    playing.write(piece)
            if file.tell() < int(wav.headers["Content-Length"]):
                sys.exit("\nthe song broke off")
            print(f"\n{asked.out}: seed {wav.headers['X-Seed']}", file=sys.stderr)
    except HTTPError as error:
        sys.exit("\n" + json.load(error)["error"]["message"])


if __name__ == "__main__":
    main()
