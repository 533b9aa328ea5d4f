"""The form that comes with an audio file."""

from __future__ import annotations

from aiohttp import BodyPartReader, web
from aiohttp.http_exceptions import HttpProcessingError

from gateway.errors import BodyTooLarge, InvalidField, InvalidForm
from gateway.upload import FIELD, MAX_BYTES

MAX_PARTS = 20
MAX_TEXT = 16 * 1024  # bytes; a prompt may have 2,000 characters


async def form(request: web.Request) -> tuple[dict[str, str], bytearray]:
    """The texts by their names, and the file.

    Raises `InvalidForm` when the body is no form, `InvalidField`, and `BodyTooLarge`.
    """
    contents: dict[str, bytearray] = {}
    try:
        parts = await request.multipart()
        while part := await parts.next():
            if not isinstance(part, BodyPartReader) or not part.name:
                raise InvalidField("A part of the form has no name; name each as its field.")
            if part.name in contents:
                name = part.name[:50]
                raise InvalidField(f"{name} is there twice; send it once.", name)
            if len(contents) == MAX_PARTS:
                raise InvalidForm(f"The form has over {MAX_PARTS} parts; send each field once.")
            contents[part.name] = await _read(part, MAX_BYTES if part.name == FIELD else MAX_TEXT)
        file = contents.pop(FIELD, None)
        texts = {name: content.decode() for name, content in contents.items()}
    except (ValueError, RuntimeError, HttpProcessingError):  # of another structure, or no UTF-8
        raise InvalidForm("The body is no form in UTF-8; send multipart/form-data.") from None
    if file is None:
        raise InvalidField(f"{FIELD} is missing; send a file, or JSON without one.", FIELD)
    return texts, file


async def _read(part: BodyPartReader, limit: int) -> bytearray:
    content = bytearray()
    while piece := await part.read_chunk():
        content += piece
        if len(content) > limit:
            raise BodyTooLarge(f"{part.name} is over {limit} bytes; send less.")
    return content
