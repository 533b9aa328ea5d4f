"""The name and the tags of a song's file.

The tags say how to generate the same song again, and that a machine made it.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

import numpy as np

from gateway import __version__
from protocol.request import FIELDS, GenerationRequest, complete
from protocol.variant import Variant

MAX_TITLE = 80  # characters
MAX_SLUG = 60
# IPTC's DigitalSourceType of media that a trained model makes, and the same as XMP.
SOURCE_TYPE = "http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia"
XMP = f"""\
<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>
<x:xmpmeta xmlns:x="adobe:ns:meta/">
<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">
<rdf:Description rdf:about=""
 xmlns:Iptc4xmpExt="http://iptc.org/std/Iptc4xmpExt/2008-02-29/"
 Iptc4xmpExt:DigitalSourceType="{SOURCE_TYPE}"/>
</rdf:RDF>
</x:xmpmeta>
<?xpacket end="r"?>"""


def tags(
    variant: Variant, request: GenerationRequest, revision: str, options: Mapping[str, Any]
) -> dict[str, str]:
    """The tags by FFmpeg's names (`encoder` is FFmpeg's own). The comment is `body` as JSON."""
    title = " ".join(request.prompt.split())
    return {
        "title": title if len(title) <= MAX_TITLE else title[: MAX_TITLE - 1] + "…",
        "artist": variant.checkpoint or variant.name,
        "copyright": f"weights: {variant.license}",
        "revision": revision,
        "software": f"AudioCraft Service {__version__}",
        "digitalsourcetype": SOURCE_TYPE,
        "comment": json.dumps(body(variant, request, options), ensure_ascii=False),
    }


def body(
    variant: Variant, request: GenerationRequest, options: Mapping[str, Any]
) -> dict[str, Any]:
    """The body of a request for the same song, with `options`, the fields that belong to the file
    alone; None leaves a field out.

    That of a song which continues a file is a form: this has all of it but that file. The file of a
    melody is not needed once its chroma is known.
    """
    values = request.values()
    if request.chroma is not None and not complete(request.chroma):
        del values["chroma"]
    fields = {name: _plain(value) for name, value in values.items() if FIELDS[name].row.http}
    body = {"model": variant.name, **fields, **options}
    return {name: value for name, value in body.items() if value is not None}


def _plain(value: Any) -> Any:
    """The value as JSON has it."""
    return value.tolist() if isinstance(value, np.ndarray) else value


def content_disposition(model: str, prompt: str, suffix: str) -> str:
    """The header that names the file after model and prompt: in ASCII, and in full (RFC 6266)."""
    full = f"{model}-{_slug(prompt)}".rstrip("-")
    plain = unicodedata.normalize("NFKD", prompt).encode("ascii", "ignore").decode()
    ascii_name = f"{_ascii(model)}-{_slug(plain)}".rstrip("-")
    return (
        f"attachment; filename=\"{ascii_name}.{suffix}\"; filename*=UTF-8''{quote(full)}.{suffix}"
    )


def _slug(text: str) -> str:
    return re.sub(r"[\W_]+", "-", text.lower()).strip("-")[:MAX_SLUG].strip("-")


def _ascii(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9._-]", "-", name)
