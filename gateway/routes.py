"""The handlers of the HTTP API."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncGenerator
from contextlib import ExitStack, aclosing, closing, suppress
from dataclasses import asdict
from typing import Any

from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST

from gateway import body
from gateway.audio import wav
from gateway.audio.formats import Encoder, preferred
from gateway.contract import Failed, Loading, Ready, Status
from gateway.default_model import resolve
from gateway.progress import Job, name_of
from gateway.request import OPTIONS, Uploads, from_query, from_text, with_audio, with_melody
from gateway.response import complete_or_aborted, finish, reset_on_close, send
from gateway.resume_state import ResumeState
from gateway.services import CALLER, SERVICES
from gateway.song import Song
from protocol.constants import FRAME_RATE, MAX_MELODY_SECONDS, SAMPLE_RATE, Samples
from protocol.errors import EngineUnavailable, InvalidField, NotFound, TritonUnavailable
from protocol.fields import Number
from protocol.request import GenerationRequest
from protocol.variant import UNKNOWN

routes = web.RouteTableDef()

PUBLIC_PATHS = ("/healthz", "/readyz", "/openapi.json")  # they need no key
WAIT = Number("Seconds to wait for a song that is not there yet", 0, 5)
NOT_KEPT = {"Cache-Control": "no-store"}


async def _no_continue(request: web.Request) -> None:
    """Leave 100 Continue to `body.read`, which sends it once the client has shown its key."""


@routes.post("/generate", expect_handler=_no_continue)
async def generate_song(request: web.Request) -> web.StreamResponse:
    """A song, sent while it is generated. A client that closes the connection cancels it.

    An error before the first audio is a response of its own; a later one aborts the connection.
    """
    services, start = request.app[SERVICES], time.monotonic()
    job, name = Job(), name_of(request.headers.get("X-Request-Id"))
    response = web.StreamResponse()
    with (
        services.access.song(request[CALLER]),
        complete_or_aborted(request, response),
        services.jobs.follow(name, job, request[CALLER]),
        ExitStack() as upload,
        ExitStack() as places,
    ):
        if body.is_form(request):
            upload.enter_context(services.decoder.room.place(_client(request)))
        song, uploads = await prepare(request)
        model, loudness = song.variant.name, song.mastering.loudness
        if loudness is not None:
            places.enter_context(services.normalizer.room.place(_client(request)))
        job.to_measure = loudness is not None
        job.begin(model, song.mastering.lengthened(song.request).frames)
        with services.metrics.songs.labels(model).track_inprogress():
            generation = await _with_files(request, response, song, uploads)
            song.mastering.check(generation)
            samples = song.mastering.samples(generation)
            job.state = ResumeState(model, song.mastering.lengthened(generation))
            job.receipt, job.loop = song.receipt, bool(song.mastering.loop)
            chunks = services.generation.generate(job.state, job.on_progress)
            del uploads, generation  # their audio is large, and songs are long
            async with aclosing(chunks):
                first = await anext(chunks)
                upload.close()  # the engine has the files
                async with aclosing(song.slices(samples, first, chunks)) as slices:
                    audio, level = slices, None
                    if loudness is not None:
                        loop = song.mastering.loop
                        audio, level = await services.normalizer.normalize(slices, loudness, loop)
                        job.finish()
                    services.metrics.first_audio.labels(model).observe(time.monotonic() - start)
                    encoder = song.encoder(samples, first, job.state.request, level)
                    response.headers.update(song.headers(first.revision, encoder, level))
                    await stream(request, response, song, encoder, audio)
    return response


def _accept(request: web.Request) -> str:
    """The header, all lines of it."""
    return ", ".join(request.headers.getall("Accept", []))


def _client(request: web.Request) -> str:
    """The name of its key; where there are no keys, its address."""
    return request[CALLER] or request.remote or ""


async def prepare(request: web.Request) -> tuple[Song, Uploads]:
    """Read and check the client's request: everything but the content of its files."""
    services, read = request.app[SERVICES], await body.read(request)
    format = read.options.format or preferred(_accept(request))
    catalogue = await services.models.catalogue()
    variants = {variant.name: variant for variant in catalogue}
    if read.options.model is None:
        model = services.default_model.among(catalogue)
    else:
        model = resolve(read.options.model, variants)
    variant = variants[model]
    if variant.weights == UNKNOWN:  # the song's file would have wrong facts
        raise TritonUnavailable(f"No server of {model!r} has answered yet; try again soon.")
    output = None if read.uploads.audio is None else read.uploads.output
    return Song(variant, read.request, format, read.mastering, output), read.uploads


async def stream(
    request: web.Request,
    response: web.StreamResponse,
    song: Song,
    encoder: Encoder,
    audio: AsyncGenerator[Samples, None],
) -> None:
    """Send the song's file, whose headers the response has."""
    audio_seconds = request.app[SERVICES].metrics.audio.labels(song.variant.name)
    with closing(encoder):
        await response.prepare(request)
        reset_on_close(request, True)
        data = encoder.begin()
        async for part in audio:
            await send(request, response, data + encoder.encode(part))
            audio_seconds.inc(part.shape[1] / SAMPLE_RATE)
            data = b""
        await send(request, response, encoder.end())
        reset_on_close(request, False)
        await finish(request, response)


async def _with_files(
    request: web.Request, response: web.StreamResponse, song: Song, uploads: Uploads
) -> GenerationRequest:
    """The request for the engine, with the audio of the client's files.

    The response says which parts of the files were left out.
    """
    decode, wanted, warnings = request.app[SERVICES].decoder.decode, song.request, []
    if uploads.audio is not None:
        audio = await decode(uploads.audio)
        warnings.append(audio.warning)
        wanted = with_audio(wanted, audio.samples, uploads.output)
    if uploads.melody is not None:
        melody = await decode(uploads.melody, "melody", MAX_MELODY_SECONDS)
        warnings.append(melody.warning)
        wanted = with_melody(wanted, melody.samples)
    if any(warnings):
        response.headers["X-Audio-Warning"] = " ".join(filter(None, warnings))
    return wanted


@routes.post("/encode", expect_handler=_no_continue)
async def encode_song(request: web.Request) -> web.StreamResponse:
    """A song that the client has as WAV, in another format and with the same tags."""
    services, format = request.app[SERVICES], preferred(_accept(request))
    if (given := from_query(request.query.items(), "format")) is not None:
        format = OPTIONS["format"].row.check("format", given)
    response = web.StreamResponse()
    with (
        complete_or_aborted(request, response),
        services.transcoder.room.place(_client(request)),
    ):
        longest = services.settings.max_duration
        song = wav.read(await body.read_wav(request), longest)
        content_type, parts = await services.transcoder.encode(song, format)
        response.headers["Content-Type"] = content_type
        response.content_length = sum(map(len, parts))
        await response.prepare(request)
        for part in parts:
            await send(request, response, part)
        await finish(request, response)
    return response


@routes.get("/generations/{id}")
async def get_progress(request: web.Request) -> web.StreamResponse:
    """A song's progress: now, or as server-sent events until its end.

    A browser connects again after the end, with the id of the last event; 204 tells it to stop.
    """
    job = await _find(request)
    if "text/event-stream" not in _accept(request):
        return web.json_response(_progress(request, job), headers=NOT_KEPT)
    if job.ended and request.headers.get("Last-Event-ID") == str(job.changes):
        return web.Response(status=204)
    content = {"Content-Type": "text/event-stream; charset=utf-8"}
    response = web.StreamResponse(headers={**content, **NOT_KEPT})
    with complete_or_aborted(request, response):
        await response.prepare(request)
        if request.method != "HEAD":
            await _send_events(request, job, response)
    return response


@routes.get("/generations/{id}/receipt")
async def get_receipt(request: web.Request) -> web.Response:
    """The body of a request for the same song, with its changes so far."""
    job = await _find(request, is_read=True)
    return web.json_response(job.describe(), headers=NOT_KEPT)


@routes.patch("/generations/{id}", expect_handler=_no_continue)
async def change_song(request: web.Request) -> web.Response:
    """Change a song while it is made, from the next frame on."""
    values = await body.read_object(request)
    job = await _find(request, is_read=True)
    if job.loop:
        raise InvalidField.of_field("loop", "is true, so the song cannot be changed; make another")
    frame = await request.app[SERVICES].generation.change(job.request_state(), values)
    content = {"changed_at": frame / FRAME_RATE, "receipt": job.describe()}
    return web.json_response(content, headers=NOT_KEPT)


async def _find(request: web.Request, is_read: bool = False) -> Job:
    """The song with this id, with `is_read` once its request has been read, for which it waits
    `?wait=` seconds."""
    services, clock = request.app[SERVICES], asyncio.get_running_loop().time
    wait = from_query(request.query.items(), "wait")
    deadline = clock() + WAIT.check("wait", 0 if wait is None else from_text(wait))
    while True:
        try:
            job = services.jobs.find(request.match_info["id"], request[CALLER])
            if is_read:
                job.request_state()
            return job
        except NotFound:
            if clock() >= deadline:
                raise
        await asyncio.sleep(services.settings.poll_interval)


async def _send_events(request: web.Request, job: Job, response: web.StreamResponse) -> None:
    """Send each change, and now and then a comment, so that proxies keep the connection open."""
    settings = request.app[SERVICES].settings
    sent, since = None, time.monotonic()
    while True:
        ended, progress = job.ended, _progress(request, job)
        changed = progress != sent
        if changed or time.monotonic() - since > settings.heartbeat_interval:
            event = f"id: {job.changes}\ndata: {json.dumps(progress)}" if changed else ":"
            await send(request, response, f"{event}\n\n".encode())
            sent, since = progress, time.monotonic()
        if ended:
            return
        await asyncio.sleep(settings.poll_interval)


def _progress(request: web.Request, job: Job) -> dict[str, Any]:
    """The job's progress, with that of the download while its model loads."""
    model = job.model if job.progress.state == "loading" else None
    download = request.app[SERVICES].models.loading(model) if model else None
    return {**job.snapshot(), "download": asdict(download) if download else None}


@routes.get("/models")
async def list_models(request: web.Request) -> web.Response:
    """Every model with its state; `default` is null where DEFAULT_MODEL names none of them."""
    services = request.app[SERVICES]
    states = await services.models.states()
    default = None
    with suppress(EngineUnavailable):
        default = services.default_model.among([variant for variant, _ in states])
    models = [
        {
            "id": variant.name,
            "checkpoint": variant.checkpoint,
            "license": variant.license,
            "weights": variant.weights,
            "size": variant.size,
            "download": variant.download,
            "channels": variant.channels,
            "melody": variant.melody,
            "state": _state(status),
            "progress": asdict(status) if isinstance(status, Loading) else None,
            "reason": _reason(status),
        }
        for variant, status in states
    ]
    max_duration = services.settings.max_duration
    return web.json_response({"default": default, "max_duration": max_duration, "models": models})


def _reason(status: Status | None) -> str | None:
    if isinstance(status, Failed):
        return status.error.message
    return status.fallback if isinstance(status, Ready) else None


def _state(status: Status | None) -> str:
    states = {Ready: "ready", Loading: "loading", Failed: "unavailable"}
    return "unloaded" if status is None else states[type(status)]


@routes.get("/healthz")
async def get_health(_: web.Request) -> web.Response:
    """The gateway runs."""
    return web.json_response({"status": "ok"})


@routes.get("/readyz")
async def get_readiness(request: web.Request) -> web.Response:
    """The default model can serve."""
    model = await request.app[SERVICES].default_model.check()
    return web.json_response({"status": "ready", "model": model})


@routes.get("/metrics")
async def get_metrics(request: web.Request) -> web.Response:
    """The gateway's metrics, for Prometheus."""
    page = request.app[SERVICES].metrics.page()
    return web.Response(body=page, headers={"Content-Type": CONTENT_TYPE_LATEST})


@routes.get("/openapi.json")
async def get_openapi(request: web.Request) -> web.Response:
    """The description of this API, for machines."""
    return web.json_response(request.app[SERVICES].openapi)
