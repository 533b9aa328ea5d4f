"""Reading the body of a request: JSON, a form with a file, or a WAV."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterable
from typing import Any, TypeVar

from aiohttp import BodyPartReader, HttpVersion11, web
from aiohttp.http_exceptions import HttpProcessingError

from gateway.audio import wav
from gateway.audio.formats import MEDIA_TYPES
from gateway.audio.upload import MAX_BYTES
from gateway.request import (
    FILES,
    Body,
    check_name,
    form_fields,
    from_form,
    from_json,
    json_object,
)
from gateway.services import SERVICES
from protocol.errors import (
    BodyTooLarge,
    BodyTooSlow,
    InvalidField,
    InvalidForm,
    InvalidJson,
    ServiceError,
    UnsupportedMediaType,
)

T = TypeVar("T")

MIN_RATE = 4 * 1024  # bytes a second
PLAIN = ("7bit", "8bit", "binary")  # the encodings of RFC 2045 that change nothing


def is_form(request: web.Request) -> bool:
    return request.content_type == "multipart/form-data"


async def read(request: web.Request) -> Body:
    """Read and check the body of `POST /generate`.

    Raises:
        BodyTooSlow, BodyTooLarge, UnsupportedMediaType, InvalidJson, InvalidForm, InvalidField
    """
    settings = request.app[SERVICES].settings
    return await _at_pace(request, _parse(request, settings.max_duration))


async def read_object(request: web.Request) -> dict[str, Any]:
    """Read a JSON object.

    Raises:
        BodyTooSlow, BodyTooLarge, UnsupportedMediaType, InvalidJson, InvalidField
    """
    return await _at_pace(request, _parse_object(request))


async def read_wav(request: web.Request) -> bytearray:
    """Read the bytes of a WAV that is no longer than MAX_DURATION, and perhaps no WAV at all.

    Raises:
        BodyTooSlow, BodyTooLarge, UnsupportedMediaType, InvalidField
    """
    kind = request.content_type
    if kind != "application/octet-stream" and MEDIA_TYPES.get(kind) != "wav":
        raise UnsupportedMediaType("Send a WAV, with Content-Type: audio/wav.")
    longest = request.app[SERVICES].settings.max_duration
    return await _at_pace(request, _bytes(request, longest))


async def _bytes(request: web.Request, longest: float) -> bytearray:
    content, limit = bytearray(), wav.max_bytes(longest)
    async for received in request.content.iter_any():
        content += received
        if len(content) > limit:
            raise BodyTooLarge(f"audio is over {limit} bytes; send at most {longest:g} s of it.")
    return content


async def _at_pace(request: web.Request, parse: Coroutine[Any, Any, T]) -> T:
    """The result of `parse`, which reads the body. Raises BodyTooSlow, or that it is broken."""
    if request.headers.get("Expect") and request.version >= HttpVersion11:
        await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        request.writer.output_size = 0  # aiohttp counts the response alone
    settings, clock = request.app[SERVICES].settings, asyncio.get_running_loop().time
    reading = asyncio.ensure_future(parse)
    received, deadline = 0, clock() + settings.stall_timeout
    try:
        while not (await asyncio.wait({reading}, timeout=settings.pace_interval))[0]:
            last, received = received, request.content.total_raw_bytes
            if received - last < MIN_RATE * settings.pace_interval or clock() > deadline:
                raise BodyTooSlow(f"The body comes too slowly; send {MIN_RATE // 1024} KB/s.")
        return reading.result()
    except web.RequestPayloadError:
        raise _broken(request) from None
    finally:
        reading.cancel()


def _broken(request: web.Request) -> ServiceError:
    problem = "is not encoded as its headers say; send it plain"
    if is_form(request):
        return InvalidForm(f"The body {problem}.")
    if _is_json(request):
        return InvalidJson(f"The body {problem}.")
    return InvalidField.of_field("audio", problem)


async def _parse(request: web.Request, max_duration: float) -> Body:
    for name in form_fields(max_duration):
        if name in request.query:
            raise InvalidField(f"{name} stands in the address; send it in the body.", name)
    if is_form(request):
        return from_form(await _form(request, form_fields(max_duration)), max_duration)
    if _is_json(request):
        return from_json(await request.read(), max_duration)
    raise UnsupportedMediaType(
        "Send Content-Type: application/json (in UTF-8), or multipart/form-data with a file."
    )


async def _parse_object(request: web.Request) -> dict[str, Any]:
    if not _is_json(request):
        raise UnsupportedMediaType("Send Content-Type: application/json, in UTF-8.")
    return json_object(await request.read())


def _is_json(request: web.Request) -> bool:
    charset = (request.charset or "utf-8").lower()
    return request.content_type == "application/json" and charset in ("utf-8", "utf8")


async def _form(request: web.Request, fields: Iterable[str]) -> dict[str, str | bytearray]:
    """The parts by their names, which are those of `fields`: texts, and files."""
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
            if part.headers.get("Content-Transfer-Encoding", "binary").lower() not in PLAIN:
                raise InvalidForm(f"{name} is in an encoding for mail; send it plain.")
            content = await _part(part, MAX_BYTES if name in FILES else request.client_max_size)
            contents[name] = content if name in FILES else _text(part, content)
    except (ValueError, RuntimeError, HttpProcessingError):  # not multipart, or not UTF-8
        raise InvalidForm("The body is no form in UTF-8; send multipart/form-data.") from None
    return contents


def _text(part: BodyPartReader, content: bytearray) -> str:
    if part.get_charset("utf-8").lower() not in ("utf-8", "us-ascii"):
        raise ValueError
    return content.decode()


async def _part(part: BodyPartReader, limit: int) -> bytearray:
    content = bytearray()
    while received := await part.read_chunk():
        content += received
        if len(content) > limit:
            raise BodyTooLarge(f"{part.name} is over {limit} bytes; send less.")
    return content
