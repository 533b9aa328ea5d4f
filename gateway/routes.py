"""The HTTP API."""

from __future__ import annotations

from contextlib import aclosing, suppress
from dataclasses import asdict

from aiohttp import web

from gateway import names, wav
from gateway.contract import Failed, Loading, Ready, Status
from gateway.errors import EngineUnavailable, InvalidJson, UnsupportedMediaType
from gateway.filename import content_disposition
from gateway.generation import generate
from gateway.keys import DEFAULT_MODEL, MODELS, SETTINGS, TRITON
from gateway.song import Song

routes = web.RouteTableDef()


@routes.post("/generate")
async def generate_song(request: web.Request) -> web.Response:
    """A song as one WAV. A client that goes away cancels it."""
    settings, models = request.app[SETTINGS], request.app[MODELS]
    song = Song.from_json(await _json_body(request), settings.max_duration)
    model = await _resolve(request, song.model)
    pieces: list[bytes] = []
    async with (
        models.use(model),
        aclosing(generate(request.app[TRITON], model, song, settings)) as chunks,
    ):
        async for chunk in chunks:
            pieces.append(wav.pcm(chunk.audio))
    header = wav.header(chunk.audio.shape[0], chunk.sample_rate, song.samples)
    return web.Response(
        body=b"".join([header, *pieces]),
        content_type="audio/wav",
        headers={
            "Content-Disposition": content_disposition(model, song.prompt),
            "X-Model": model,
            "X-Seed": str(chunk.seed),
        },
    )


@routes.get("/models")
async def list_models(request: web.Request) -> web.Response:
    """Every model with its state; `default` is null where DEFAULT_MODEL names none of them."""
    models = request.app[MODELS]
    variants = await models.catalogue()
    default = None
    with suppress(EngineUnavailable):
        default = await request.app[DEFAULT_MODEL].name()
    statuses = await models.statuses([variant.name for variant in variants])
    described = [
        {
            "id": variant.name,
            "checkpoint": variant.checkpoint,
            "license": variant.license,
            "weights": variant.weights,
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


async def _json_body(request: web.Request) -> bytes:
    charset = (request.charset or "utf-8").lower()
    if request.content_type != "application/json" or charset not in ("utf-8", "utf8"):
        raise UnsupportedMediaType("Send Content-Type: application/json (in UTF-8).")
    try:
        return await request.read()
    except web.RequestPayloadError:
        raise InvalidJson("The body is not encoded as its headers say; send it plain.") from None


async def _resolve(request: web.Request, spelling: str | None) -> str:
    if spelling is None:
        return await request.app[DEFAULT_MODEL].name()
    variants = await request.app[MODELS].catalogue()
    return names.resolve(spelling, [variant.name for variant in variants])


def _state(status: Status | None) -> str:
    states = {Ready: "ready", Loading: "loading", Failed: "unavailable"}
    return "unloaded" if status is None else states[type(status)]
