"""The model that serves who names none: chosen once while it is there, and kept loaded."""

from __future__ import annotations

import asyncio
import logging

from gateway import names
from gateway.contract import Failed, Loading, Variant
from gateway.errors import EngineUnavailable, GatewayError, TritonUnavailable, UnknownModel
from gateway.models import Models
from gateway.settings import Settings

log = logging.getLogger(__name__)

SIZES = ("small", "medium", "large")
PREFERENCE = [f"musicgen-{kind}{size}" for kind in ("", "stereo-") for size in SIZES]
FALLBACK = "musicgen-tiny"


class DefaultModel:
    def __init__(self, models: Models, settings: Settings) -> None:
        self._models = models
        self._settings = settings
        self._name: str | None = None

    async def name(self) -> str:
        """Raises `EngineUnavailable` when none can be chosen."""
        return self.among(await self._models.catalogue())

    def among(self, variants: list[Variant]) -> str:
        """Its name; another one's once it is not there any more. Raises as `name`."""
        if self._name not in {variant.name for variant in variants}:
            self._name = choose(variants, self._settings.default_model)
            log.info("the default model is %s", self._name)
        return self._name

    async def check(self) -> str:
        """Its name, if it can serve; also when it is unloaded because others took its place.

        Raises the error that a song for it would meet.
        """
        model = await self.name()
        [status] = await self._models.statuses([model])
        if status is None and await self._models.has_room_for(model):
            status = Loading()  # the watch is about to load it
        if isinstance(status, Failed):
            raise status.error
        if isinstance(status, Loading):
            raise status.error(model)
        return model

    async def watch(self) -> None:
        """Keeps the front and the default model up, also when Triton restarts. Runs for ever.

        A default model that made way for others stays away until it is asked for.
        """
        complaint, settings = "", self._settings
        pause = settings.watch_interval
        while True:
            try:
                model = await self.name()
                if await self._models.has_room_for(model):
                    await self._models.ensure_ready(model)
                complaint, pause = "", settings.watch_interval
            except TritonUnavailable:
                pause = settings.poll_interval  # it starts, or starts again
            except GatewayError as error:
                if error.message != complaint:
                    log.warning("the default model is not ready: %s", error.message)
                complaint, pause = error.message, min(2 * pause, settings.retry_interval)
            except Exception:
                log.exception("the default model cannot be watched")
                pause = settings.retry_interval
            await asyncio.sleep(pause)


def choose(variants: list[Variant], wanted: str) -> str:
    """`wanted`, else the first of the hub's whose weights are cached, else the tiny one.

    Raises `EngineUnavailable` when that model is not among the variants.
    """
    weights = {variant.name: variant.weights for variant in variants}
    if not wanted:
        cached = (name for name in PREFERENCE if weights.get(name) == "cached")
        wanted = next(cached, FALLBACK)
    try:
        return names.resolve(wanted, weights)
    except UnknownModel:
        raise EngineUnavailable(
            f"The default model {wanted!r} is not here; "
            f"set DEFAULT_MODEL to one of {', '.join(weights)}."
        ) from None
