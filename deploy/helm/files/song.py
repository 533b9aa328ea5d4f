"""Makes a second of music with each model, through the gateway, for `helm test`."""

import json
import os
import sys
from urllib.error import HTTPError
from urllib.request import Request, urlopen

headers = {"Content-Type": "application/json"}
if key := os.environ.get("API_KEY"):
    headers["Authorization"] = f"Bearer {key}"
for model in os.environ["MODELS"].split():
    song = json.dumps({"model": model, "prompt": "slow piano", "duration": 1}).encode()
    try:
        with urlopen(Request(os.environ["GATEWAY"] + "/generate", song, headers)) as answer:
            wav = answer.read()
    except HTTPError as error:
        sys.exit(f"{model}: {error} {error.read().decode()}")
    if not (wav.startswith(b"RIFF") and len(wav) > 64_000):
        sys.exit(f"{model}: {len(wav)} bytes are no second of music")
    print(f"{model}: {len(wav)} bytes")
