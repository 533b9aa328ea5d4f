"""A fake Hugging Face hub on this machine, from which the real client can download.

with FakeHub({"facebook/musicgen-small": folder}) as hub:
    subprocess.run(..., env={**os.environ, **hub.environment(tmp_path)})
"""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Literal

COMMIT = "0123456789abcdef0123456789abcdef01234567"
CHUNK = 64 * 1024

Mode = Literal["serve", "hang", "gated", "broken", "error"]


class FakeHub:
    """Serves the files of each folder as the repository of its name, at revision main.

    `mode` may change at any time: "serve"; "hang" accepts connections and never answers; "gated"
    answers 403; "error" answers 503; "broken" closes the connection halfway through a file.
    `bytes_per_second` slows the files down. `requests` lists every request as (method, path).
    `refused()` is a hub that refuses connections.
    """

    def __init__(
        self,
        repos: Mapping[str, Path],
        mode: Mode = "serve",
        bytes_per_second: float | None = None,
    ) -> None:
        self.repos = dict(repos)
        self.mode = mode
        self.bytes_per_second = bytes_per_second
        self.requests: list[tuple[str, str]] = []
        self.closed = threading.Event()
        self._server = _Server(("127.0.0.1", 0), _Handler)
        self._server.hub = self
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    @property
    def downloads(self) -> list[str]:
        """The paths of the files that were sent, in whole or in part."""
        return [path for method, path in self.requests if method == "GET" and "/resolve/" in path]

    def __enter__(self) -> FakeHub:
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.closed.set()
        self._server.shutdown()
        self._server.server_close()

    def environment(self, cache: Path) -> dict[str, str]:
        """The variables that make another process use this hub, with `cache` as its cache."""
        return environment(self.url, cache)


def environment(url: str, cache: Path) -> dict[str, str]:
    return {
        "HF_ENDPOINT": url,
        "HF_HOME": str(cache / "huggingface"),
        "AUDIOCRAFT_CACHE_DIR": str(cache / "audiocraft"),
        "HF_HUB_OFFLINE": "0",
    }


def refused() -> str:
    """The address of a hub that is down: nothing listens there."""
    server = _Server(("127.0.0.1", 0), _Handler)
    server.server_close()
    return f"http://127.0.0.1:{server.server_port}"


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    hub: FakeHub

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Log nothing: in some tests the client closes the connection."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def do_HEAD(self) -> None:
        self._answer(with_body=False)

    def do_GET(self) -> None:
        self._answer(with_body=True)

    def _answer(self, with_body: bool) -> None:
        hub = self.server.hub
        hub.requests.append((self.command, self.path))
        if hub.mode == "hang":
            hub.closed.wait()
            return
        repo, _, rest = self.path.lstrip("/").partition("/resolve/")
        file = hub.repos.get(repo, Path()) / rest.partition("/")[2]
        if hub.mode == "gated":
            self._refuse(403, "GatedRepo")
        elif hub.mode == "error":
            self._refuse(503, "Unavailable")
        elif repo not in hub.repos:
            self._refuse(404, "RepoNotFound")
        elif not file.is_file():
            self._refuse(404, "EntryNotFound")
        else:
            self._send(file.read_bytes(), with_body)

    def _refuse(self, status: int, code: str) -> None:
        self.send_response(status)
        self.send_header("X-Error-Code", code)
        self.send_header("X-Repo-Commit", COMMIT)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def _send(self, content: bytes, with_body: bool) -> None:
        start = int(self.headers.get("Range", "bytes=0-")[len("bytes=") :].partition("-")[0])
        self.send_response(206 if "Range" in self.headers else 200)
        self.send_header("X-Repo-Commit", COMMIT)
        self.send_header("ETag", f'"{hashlib.sha256(content).hexdigest()}"')
        self.send_header("Content-Length", str(len(content) - start))
        if "Range" in self.headers:
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        self.end_headers()
        hub = self.server.hub
        end = len(content)
        if hub.mode == "broken" and with_body:
            end = start + (end - start) // 2
            self.close_connection = True
        for offset in range(start, end if with_body else start, CHUNK):
            part = content[offset : min(offset + CHUNK, end)]
            self.wfile.write(part)
            if hub.bytes_per_second:
                time.sleep(len(part) / hub.bytes_per_second)

    def log_message(self, format: str, *args: Any) -> None:
        """Log nothing."""
