"""The body of a request for a song: JSON, or a form with a file."""

from __future__ import annotations

import asyncio
import sys

if sys.version_info >= (3, 11):
    from asyncio import timeout
else:
    from async_timeout import timeout

from aiohttp import web

from gateway.appkeys import SETTINGS
from gateway.errors import BodyTooSlow, InvalidForm, InvalidJson, UnsupportedMediaType
from gateway.form import form
from gateway.song import Song


def is_form(request: web.Request) -> bool:
    return request.content_type == "multipart/form-data"


async def read(request: web.Request) -> tuple[Song, bytearray | None]:
    """And the file that it goes on from.

    Raises `BodyTooSlow`, `UnsupportedMediaType`, and as `Song.from_json` and `form`.
    """
    if request.headers.get("Expect", "").lower() == "100-continue":
        await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        request.writer.output_size = 0  # of the answer, which has not begun
    settings = request.app[SETTINGS]
    try:
        async with timeout(settings.stall_timeout):
            if is_form(request):
                texts, file = await form(request)
                return Song.from_form(texts, settings.max_duration), file
            charset = (request.charset or "utf-8").lower()
            if request.content_type == "application/json" and charset in ("utf-8", "utf8"):
                return Song.from_json(await request.read(), settings.max_duration), None
    except asyncio.TimeoutError:
        patience = f"{settings.stall_timeout:g} s"
        raise BodyTooSlow(f"The body took over {patience}; send it faster.") from None
    except web.RequestPayloadError:
        refusal = InvalidForm if is_form(request) else InvalidJson
        raise refusal("The body is not encoded as its headers say; send it plain.") from None
    raise UnsupportedMediaType(
        "Send Content-Type: application/json (in UTF-8), or multipart/form-data with audio."
    )
