"""A client as nobody wishes for, and what it sends."""

from __future__ import annotations

import asyncio
import random
from dataclasses import dataclass

import aiohttp

from bench.service import MODEL

FORMATS = ("wav", "flac", "ogg", "mp3")
PIECE = 16_384  # bytes that are read at a time
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
class Vandal:
    """Each deed tells what came of it: the status of the answer, or "closed" without one."""

    session: aiohttp.ClientSession
    port: int
    dice: random.Random

    async def listen(self, name: str = "") -> str:
        """To the end of a short song, slowly."""
        seconds, format = self.dice.uniform(0.02, 8), self.dice.choice(FORMATS)
        song = {"model": MODEL, "prompt": "drums", "duration": seconds, "format": format}
        headers = {"X-Request-Id": name}
        async with self.session.post("/generate", json=song, headers=headers) as answer:
            async for _ in answer.content.iter_chunked(PIECE):
                await asyncio.sleep(self.dice.uniform(0, 0.3))
            return str(answer.status)

    async def leave(self) -> str:
        """A song, at any moment."""
        return await asyncio.wait_for(self.listen(), self.dice.uniform(0, 5))

    async def watch(self) -> str:
        """How far a song is, and leave both."""
        name = f"bench-{self.dice.getrandbits(64):016x}"
        song = asyncio.create_task(self.listen(name))
        try:
            await asyncio.sleep(self.dice.uniform(0, 1))
            return await asyncio.wait_for(self._watch(name), self.dice.uniform(0, 5))
        finally:
            song.cancel()
            await asyncio.gather(song, return_exceptions=True)

    async def _watch(self, name: str) -> str:
        headers = {"Accept": "text/event-stream"}
        async with self.session.get(f"/generations/{name}", headers=headers) as answer:
            await answer.read()
            return str(answer.status)

    async def upload(self) -> str:
        """Noise, as if it were a file of music."""
        form = aiohttp.FormData({"prompt": "drums", "duration": "5"})
        noise = self.dice.randbytes(self.dice.randrange(1_000_000))
        form.add_field("audio", noise, filename="noise.wav")
        async with self.session.post("/generate", data=form) as answer:
            await answer.read()
            return str(answer.status)

    async def babble(self) -> str:
        """What is no HTTP, or half of it, or asks for nothing that there is."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        try:
            writer.write(garbage(self.dice))
            line = await asyncio.wait_for(reader.readline(), self.dice.uniform(0, 2))
            return line.split()[1].decode() if line else "closed"
        finally:
            writer.close()


def garbage(dice: random.Random) -> bytes:
    """Bytes that do not make a song, whichever they are."""
    path, body = dice.choice(PATHS), dice.choice(BODIES)
    length, odd = f"Content-Length: {len(body)}", dice.choice((*HEADERS, "", ""))
    lines = (f"POST {path} HTTP/1.1", "Host: bench", "Content-Type: application/json", length, odd)
    whole = "\r\n".join(filter(None, lines)).encode() + b"\r\n\r\n" + body
    half = whole[: dice.randrange(len(whole))]
    return dice.choice((whole, half, dice.randbytes(1_000) + b"\r\n\r\n"))
