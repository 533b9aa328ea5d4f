"""A song that a client wants: its file, and the request that repeats it."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from dataclasses import dataclass, replace
from typing import Any

from gateway.audio import receipt
from gateway.audio.formats import FORMATS, Encoder
from gateway.audio.loudness import Level
from gateway.audio.mastering import Mastering
from gateway.contract import Chunk
from protocol.constants import Samples
from protocol.request import GenerationRequest
from protocol.variant import Variant


@dataclass(frozen=True)
class Song:
    """`output` is that of a song which continues a file."""

    variant: Variant
    request: GenerationRequest
    format: str
    mastering: Mastering
    output: str | None

    @property
    def options(self) -> dict[str, Any]:
        """The fields of the body that belong to the file alone."""
        return self.mastering.values() | ({"output": self.output} if self.output else {})

    def repeatable(self, request: GenerationRequest) -> GenerationRequest:
        """The request for the same song, by what has become of its own: the chroma is known, and
        there may be changes. A loop is made of a longer song, which cannot be changed."""
        return replace(self.request, chroma=request.chroma) if self.mastering.loop else request

    def receipt(self, request: GenerationRequest) -> dict[str, Any]:
        """The body of a request for the song."""
        return receipt.body(self.variant, self.repeatable(request), self.options)

    async def slices(
        self, samples: int, first: Chunk, chunks: AsyncGenerator[Chunk, None]
    ) -> AsyncGenerator[Samples, None]:
        """The audio of a file of so many samples per channel, while the song is generated."""
        stages = self.mastering.stages(samples)
        chunk: Chunk | None = first
        while chunk:
            audio = chunk.audio
            for stage in stages:
                audio = stage(audio)
            if audio.size:
                yield audio
            chunk = await anext(chunks, None)

    def encoder(
        self, samples: int, first: Chunk, request: GenerationRequest, level: Level | None
    ) -> Encoder:
        """The encoder of such a file, with tags about its first chunk and its request."""
        repeatable = self.repeatable(request)
        tags = receipt.tags(self.variant, repeatable, first.revision, self.options)
        tags |= self.mastering.tags(samples, level)
        return FORMATS[self.format](len(first.audio), first.sample_rate, samples, tags)

    def headers(self, revision: str, encoder: Encoder, level: Level | None) -> dict[str, str]:
        loudness = {"X-Loudness": f"{level.loudness:.1f}"} if level else {}
        length = {} if encoder.length is None else {"Content-Length": str(encoder.length)}
        model, prompt = self.variant.name, self.request.prompt
        return {
            "Content-Type": encoder.content_type,
            "Content-Disposition": receipt.content_disposition(model, prompt, self.format),
            "X-Model": model,
            "X-Revision": revision,
            "X-Seed": str(self.request.seed),
            "X-Content-Source": receipt.SOURCE_TYPE,
            **loudness,
            **length,
        }
