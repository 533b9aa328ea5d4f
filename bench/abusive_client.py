"""A client that misuses the service, and what it sends."""

from __future__ import annotations

import asyncio
import random
from dataclasses import dataclass

import aiohttp

from bench.service import MODEL

FORMATS = ("wav", "flac", "ogg", "mp3")
READ = 16_384  # bytes at a time
BODIES = (
    b"", b"{", b"[1, 2]", b"null", b"\xff\xfe", b"[" * 9_000,
    b'{"prompt": 5}', b'{"prompt": "", "duration": 1}', b'{"prompt": "a", "duration": "long"}',
    b'{"prompt": "a", "duration": 1e999}', b'{"prompt": "a", "seed": -1}',
    b'{"prompt": "a", "format": "exe"}', b'{"prompt": "a", "model": "../../etc"}',
)  # fmt: skip
PATHS = ("/generate", "/generations/x", "/../../etc/passwd", "/%00", "//", "*", "/" + "a" * 9_000)
HEADERS = (
    "Content-Length: -1", "Content-Length: 1\r\nContent-Length: 2", "Transfer-Encoding: chunked",
    "Content-Encoding: gzip", "Content-Type: multipart/form-data", "Authorization: \x7f",
    "Expect: 100-continue", "X-Request-Id: " + "x" * 9_000, "Host: \u00e9", "no header at all",
)  # fmt: skip


@dataclass(frozen=True)
class AbusiveClient:
    """Each method returns its outcome: the status of the response, or "closed" without one."""

    session: aiohttp.ClientSession
    port: int
    rng: random.Random

    async def listen(self, request_id: str = "") -> str:
        """Read a short song to its end, slowly."""
        seconds, format = self.rng.uniform(0.02, 8), self.rng.choice(FORMATS)
        song = {"model": MODEL, "prompt": "drums", "duration": seconds, "format": format}
        headers = {"X-Request-Id": request_id}
        async with self.session.post("/generate", json=song, headers=headers) as response:
            async for _ in response.content.iter_chunked(READ):
                await asyncio.sleep(self.rng.uniform(0, 0.3))
            return str(response.status)

    async def leave(self) -> str:
        """Leave a song at a random moment."""
        return await asyncio.wait_for(self.listen(), self.rng.uniform(0, 5))

    async def watch(self) -> str:
        """Watch the progress of a song, then leave both."""
        request_id = f"bench-{self.rng.getrandbits(64):016x}"
        song = asyncio.create_task(self.listen(request_id))
        try:
            await asyncio.sleep(self.rng.uniform(0, 1))
            return await asyncio.wait_for(self._progress(request_id), self.rng.uniform(0, 5))
        finally:
            song.cancel()
            await asyncio.gather(song, return_exceptions=True)

    async def _progress(self, request_id: str) -> str:
        headers = {"Accept": "text/event-stream"}
        async with self.session.get(f"/generations/{request_id}", headers=headers) as response:
            await response.read()
            return str(response.status)

    async def upload(self) -> str:
        """Send random bytes as a file of music."""
        form = aiohttp.FormData({"prompt": "drums", "duration": "5"})
        noise = self.rng.randbytes(self.rng.randrange(1_000_000))
        form.add_field("audio", noise, filename="noise.wav")
        async with self.session.post("/generate", data=form) as response:
            await response.read()
            return str(response.status)

    async def send_garbage(self) -> str:
        """Send invalid HTTP, half a request, or an invalid one."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        try:
            writer.write(garbage(self.rng))
            line = await asyncio.wait_for(reader.readline(), self.rng.uniform(0, 2))
            return line.split()[1].decode() if line else "closed"
        finally:
            writer.close()


def garbage(rng: random.Random) -> bytes:
    """Bytes that never make a song."""
    path, body = rng.choice(PATHS), rng.choice(BODIES)
    length, odd = f"Content-Length: {len(body)}", rng.choice((*HEADERS, "", ""))
    lines = (f"POST {path} HTTP/1.1", "Host: bench", "Content-Type: application/json", length, odd)
    whole = "\r\n".join(filter(None, lines)).encode() + b"\r\n\r\n" + body
    half = whole[: rng.randrange(len(whole))]
    return rng.choice((whole, half, rng.randbytes(1_000) + b"\r\n\r\n"))
