"""Reading the body of `POST /generate`: JSON, or a form with a file."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterable

if sys.version_info >= (3, 11):
    from asyncio import timeout
else:
    from async_timeout import timeout

from aiohttp import BodyPartReader, web
from aiohttp.http_exceptions import HttpProcessingError

from gateway.audio.reader import FIELD
from gateway.audio.upload import MAX_BYTES
from gateway.request import Body, check_name, form_fields, from_form, from_json
from gateway.services import SERVICES
from protocol.errors import (
    BodyTooLarge,
    BodyTooSlow,
    InvalidField,
    InvalidForm,
    InvalidJson,
    UnsupportedMediaType,
)

MAX_TEXT = 16 * 1024  # bytes; a prompt may have 2,000 characters


def is_form(request: web.Request) -> bool:
    return request.content_type == "multipart/form-data"


async def read(request: web.Request) -> Body:
    """Read and check the body.

    Raises:
        BodyTooSlow, BodyTooLarge, UnsupportedMediaType, InvalidJson, InvalidForm, InvalidField
    """
    if request.headers.get("Expect", "").lower() == "100-continue":
        await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        request.writer.output_size = 0  # aiohttp counts the response alone
    settings = request.app[SERVICES].settings
    try:
        async with timeout(settings.stall_timeout):
            if is_form(request):
                parts = await _form(request, form_fields(settings.max_duration))
                return from_form(parts, settings.max_duration)
            charset = (request.charset or "utf-8").lower()
            if request.content_type == "application/json" and charset in ("utf-8", "utf8"):
                return from_json(await request.read(), settings.max_duration)
    except asyncio.TimeoutError:
        limit = f"{settings.stall_timeout:g} s"
        raise BodyTooSlow(f"The body took over {limit}; send it faster.") from None
    except web.RequestPayloadError:
        kind = InvalidForm if is_form(request) else InvalidJson
        raise kind("The body is not encoded as its headers say; send it plain.") from None
    raise UnsupportedMediaType(
        "Send Content-Type: application/json (in UTF-8), or multipart/form-data with audio."
    )


async def _form(request: web.Request, fields: Iterable[str]) -> dict[str, str | bytearray]:
    """The parts by their names, which are those of `fields`: texts, and the file."""
    contents: dict[str, str | bytearray] = {}
    try:
        parts = await request.multipart()
        while part := await parts.next():
            if not isinstance(part, BodyPartReader) or not part.name:
                raise InvalidField("A part of the form has no name; name each as its field.")
            name = part.name
            if name in contents:
                raise InvalidField(f"{name[:50]} is there twice; send it once.", name[:50])
            check_name(fields, name)
            content = await _part(part, MAX_BYTES if name == FIELD else MAX_TEXT)
            contents[name] = content if name == FIELD else content.decode()
    except (ValueError, RuntimeError, HttpProcessingError):  # not multipart, or not UTF-8
        raise InvalidForm("The body is no form in UTF-8; send multipart/form-data.") from None
    return contents


async def _part(part: BodyPartReader, limit: int) -> bytearray:
    content = bytearray()
    while received := await part.read_chunk():
        content += received
        if len(content) > limit:
            raise BodyTooLarge(f"{part.name} is over {limit} bytes; send less.")
    return content
