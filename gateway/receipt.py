"""What a file tells about itself: whoever has it can have it made again."""

from __future__ import annotations

import json

from gateway import __version__
from gateway.contract import Variant
from gateway.song import Song

MAX_TITLE = 80


def tags(song: Song, variant: Variant, revision: str) -> dict[str, str]:
    """By FFmpeg's names for them (`encoder` is its own). The comment is the request in JSON, as it
    can be sent again; where the song went on from a file, it is the form without that file.
    """
    title = " ".join(song.prompt.split())
    request = {
        "model": variant.name,
        "prompt": song.prompt,
        "duration": song.seconds,
        "seed": song.seed,
        **song.settings,
        **({"output": song.output} if song.output else {}),
    }
    return {
        "title": title if len(title) <= MAX_TITLE else title[: MAX_TITLE - 1] + "…",
        "artist": variant.checkpoint or variant.name,
        "copyright": f"weights: {variant.license}",
        "revision": revision,
        "software": f"AudioCraft Service {__version__}",
        "comment": json.dumps(request, ensure_ascii=False),
    }
