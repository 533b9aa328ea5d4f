"""The examples, with a server that breaks off; tests/stack/ runs them with the service."""

import subprocess
import sys
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread

import pytest

from tests.conftest import ROOT


class HalfASong(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200)
        self.send_header("Content-Length", "1000")
        self.end_headers()
        self.wfile.write(bytes(500))


@pytest.mark.parametrize("example", ["listen", "steer"])
def test_half_a_song_is_not_taken_for_a_whole(tmp_path: Path, example: str) -> None:
    with HTTPServer(("127.0.0.1", 0), HalfASong) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_port}"
        done = subprocess.run(
            [sys.executable, ROOT / "examples" / f"{example}.py", "jazz", "--server", address],
            cwd=tmp_path, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60,
        )  # fmt: skip
        server.shutdown()
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == "the song broke off"
