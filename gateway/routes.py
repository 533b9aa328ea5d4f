"""The HTTP API."""

from __future__ import annotations

import asyncio
import json
import logging
import socket
import struct
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import (
    ExitStack,
    aclosing,
    asynccontextmanager,
    closing,
    contextmanager,
    suppress,
)
from dataclasses import asdict
from typing import Any

if sys.version_info >= (3, 11):
    from asyncio import timeout
else:
    from async_timeout import timeout

from aiohttp import HttpVersion11, web
from prometheus_client import CONTENT_TYPE_LATEST

from gateway import body, formats, names, receipt
from gateway.appkeys import (
    ACCESS,
    BROKEN_OFF,
    CALLER,
    DEFAULT_MODEL,
    GENERATION,
    JOBS,
    METRICS,
    MODELS,
    OPENAPI,
    READER,
    SETTINGS,
)
from gateway.contract import Chunk, Failed, Held, Loading, Ready, Status, Variant
from gateway.errors import EngineUnavailable
from gateway.filename import content_disposition
from gateway.progress import Job, name_of
from gateway.song import Song

log = logging.getLogger(__name__)

routes = web.RouteTableDef()


async def _not_yet(request: web.Request) -> None:
    """Who waits for 100 Continue before the body waits until it is wanted."""


PUBLIC_PATHS = ("/healthz", "/readyz", "/openapi.json")  # without a key
NOT_KEPT = {"Cache-Control": "no-store"}


@routes.post("/generate", expect_handler=_not_yet)
async def generate_song(request: web.Request) -> web.StreamResponse:
    """A song as it is made. A client that goes away cancels it.

    Until the first of it is there an error is an answer of its own; a later one breaks the
    connection off, so that no part looks like a whole.
    """
    with request.app[ACCESS].song(request[CALLER]), ExitStack() as upload:
        if body.is_form(request):
            upload.enter_context(request.app[READER].room())
        return await _generate(request, upload)


async def _generate(request: web.Request, upload: ExitStack) -> web.StreamResponse:
    asked = time.monotonic()
    name = name_of(request.headers.get("X-Request-Id"))
    song, file = await body.read(request)
    format = formats.choose(song.format, request.headers.get("Accept", ""))
    variant = await _resolve(request, song.model)
    metrics, answer = request.app[METRICS], web.StreamResponse()
    with (
        _whole_or_broken_off(request, answer),
        metrics.songs.labels(variant.name).track_inprogress(),
        request.app[JOBS].follow(name, Job(variant.name, song.frames), request[CALLER]) as job,
    ):
        held = await _held(request, song, file)
        samples = song.end - held.samples
        playing = request.app[GENERATION].play(variant.name, song, held, job.hear)
        del file, held  # they are large, and songs are long
        async with aclosing(playing) as chunks:
            first = await anext(chunks)
            upload.close()  # the engine has the file
            metrics.first_audio.labels(variant.name).observe(time.monotonic() - asked)
            tags = receipt.tags(song, variant, first.revision)
            new = formats.FORMATS[format]
            with closing(new(len(first.audio), first.sample_rate, samples, tags)) as encoder:
                answer.headers.update(_headers(song, variant, first.revision, format, encoder))
                await answer.prepare(request)
                _linger(request, on=True)
                chunk: Chunk | None = first
                piece = encoder.begin()
                while chunk:
                    async with _patience(request):
                        await answer.write(piece + encoder.encode(chunk.audio))
                    metrics.audio.labels(variant.name).inc(chunk.seconds)
                    piece, chunk = b"", await anext(chunks, None)
                async with _patience(request):
                    await answer.write(encoder.end())
                _linger(request, on=False)
                await answer.write_eof()
    return answer


def _linger(request: web.Request, *, on: bool) -> None:
    """Whether a close of the connection resets it, also when this process is killed: to HTTP/1.0,
    which knows no chunks, an orderly one would be the end of the song."""
    if request.version < HttpVersion11 and request.transport:
        connection = request.transport.get_extra_info("socket")
        linger = struct.pack("ii", on, 0)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)


@contextmanager
def _whole_or_broken_off(request: web.Request, answer: web.StreamResponse) -> Iterator[None]:
    """An error breaks off an answer that has begun."""
    try:
        yield
    except Exception as error:
        if not answer.prepared:
            raise
        request[BROKEN_OFF] = True
        log.error("broken off", exc_info=error)
        if request.transport:
            request.transport.abort()


@asynccontextmanager
async def _patience(request: web.Request) -> AsyncIterator[None]:
    """With a client that does not read."""
    async with timeout(request.app[SETTINGS].stall_timeout):
        yield


def _headers(
    song: Song, variant: Variant, revision: str, format: str, encoder: formats.Encoder
) -> dict[str, str]:
    length = {} if encoder.length is None else {"Content-Length": str(encoder.length)}
    return {
        "Content-Type": encoder.content_type,
        "Content-Disposition": content_disposition(variant.name, song.prompt, format),
        "X-Model": variant.name,
        "X-Revision": revision,
        "X-Seed": str(song.seed),
        **length,
    }


@routes.get("/generations/{id}")
async def tell_progress(request: web.Request) -> web.StreamResponse:
    """How far a song is: now, or as server-sent events until its end."""
    job = request.app[JOBS].find(request.match_info["id"], request[CALLER])
    if "text/event-stream" not in request.headers.get("Accept", ""):
        return web.json_response(_progress(request, job), headers=NOT_KEPT)
    content = {"Content-Type": "text/event-stream; charset=utf-8"}
    answer = web.StreamResponse(headers={**content, **NOT_KEPT})
    with _whole_or_broken_off(request, answer):
        await answer.prepare(request)
        if request.method != "HEAD":
            await _tell(request, job, answer)
    return answer


async def _tell(request: web.Request, job: Job, answer: web.StreamResponse) -> None:
    """Each change, and a comment now and then, lest somebody between takes silence for death."""
    settings = request.app[SETTINGS]
    told, since = None, time.monotonic()
    while True:
        ended, progress = job.ended, _progress(request, job)
        silent = progress == told
        if not silent or time.monotonic() - since > settings.heartbeat_interval:
            event = ":" if silent else f"data: {json.dumps(progress)}"
            async with _patience(request):
                await answer.write(f"{event}\n\n".encode())
            told, since = progress, time.monotonic()
        if ended:
            return
        await asyncio.sleep(settings.poll_interval)


def _progress(request: web.Request, job: Job) -> dict[str, Any]:
    """With the bytes of its model's weights, while they come."""
    loading = request.app[MODELS].loading(job.model) if job.progress.state == "loading" else None
    return {**job.snapshot(), "download": asdict(loading) if loading else None}


@routes.get("/models")
async def list_models(request: web.Request) -> web.Response:
    """Every model with its state; `default` is null where DEFAULT_MODEL names none of them."""
    models = request.app[MODELS]
    variants = await models.catalogue()
    default = None
    with suppress(EngineUnavailable):
        default = request.app[DEFAULT_MODEL].among(variants)
    statuses = await models.statuses([variant.name for variant in variants])
    described = [
        {
            "id": variant.name,
            "checkpoint": variant.checkpoint,
            "license": variant.license,
            "weights": variant.weights,
            "size": variant.size,
            "channels": variant.channels,
            "state": _state(status),
            "progress": asdict(status) if isinstance(status, Loading) else None,
            "reason": status.error.message if isinstance(status, Failed) else None,
        }
        for variant, status in zip(variants, statuses, strict=True)
    ]
    max_duration = request.app[SETTINGS].max_duration
    return web.json_response(
        {"default": default, "max_duration": max_duration, "models": described}
    )


@routes.get("/healthz")
async def health(_: web.Request) -> web.Response:
    """The gateway lives."""
    return web.json_response({"status": "ok"})


@routes.get("/readyz")
async def readiness(request: web.Request) -> web.Response:
    """The default model can serve."""
    model = await request.app[DEFAULT_MODEL].check()
    return web.json_response({"status": "ready", "model": model})


@routes.get("/metrics")
async def tell_metrics(request: web.Request) -> web.Response:
    """For Prometheus."""
    return web.Response(
        body=request.app[METRICS].page(), headers={"Content-Type": CONTENT_TYPE_LATEST}
    )


@routes.get("/openapi.json")
async def describe_api(request: web.Request) -> web.Response:
    """For machines."""
    return web.json_response(request.app[OPENAPI])


async def _held(request: web.Request, song: Song, file: bytearray | None) -> Held:
    if file is None:
        return Held()
    audio = await request.app[READER].read(file)
    return Held(samples=song.start(audio), audio=audio)


async def _resolve(request: web.Request, spelling: str | None) -> Variant:
    catalogue = await request.app[MODELS].catalogue()
    variants = {variant.name: variant for variant in catalogue}
    if spelling is None:
        return variants[request.app[DEFAULT_MODEL].among(catalogue)]
    return variants[names.resolve(spelling, variants)]


def _state(status: Status | None) -> str:
    states = {Ready: "ready", Loading: "loading", Failed: "unavailable"}
    return "unloaded" if status is None else states[type(status)]
