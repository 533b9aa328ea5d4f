"""The model that a request means: by its name, or the default model, which is kept loaded."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Collection

from gateway.cached import Cached
from gateway.contract import Failed, Loading
from gateway.models import Models
from gateway.pools import Pools
from gateway.settings import GatewaySettings
from protocol.errors import EngineUnavailable, ServiceError, TritonUnavailable, UnknownModel
from protocol.variant import Variant

log = logging.getLogger(__name__)

SIZES = ("small", "medium", "large")
PREFERENCE = [f"musicgen-{kind}{size}" for kind in ("", "stereo-") for size in SIZES]
FALLBACK = "musicgen-tiny"


class DefaultModel:
    def __init__(self, models: Models | Pools, settings: GatewaySettings) -> None:
        self._models = models
        self._settings = settings
        self._name: str | None = None
        self.check = Cached(self._check, settings.poll_interval)

    async def name(self) -> str:
        """The name of the default model. Raise `EngineUnavailable` when there is none."""
        return self.among(await self._models.catalogue())

    def among(self, variants: list[Variant]) -> str:
        """The name of the default model among these, which stays while they include it. Raise as
        `name`."""
        if self._name not in {variant.name for variant in variants}:
            self._name = choose(variants, self._settings.default_model)
            log.info("the default model is %s", self._name)
        return self._name

    async def _check(self) -> str:
        """The name of the default model. It counts as able to serve also while it is unloaded to
        make room for others.

        Raises the error that a song for it would get.
        """
        model = await self.name()
        status = await self._models.status(model)
        if status is None and await self._models.has_room_for(model):
            status = Loading()  # `watch` is about to load it
        if isinstance(status, Failed):
            raise status.error
        if isinstance(status, Loading):
            raise status.error(model)
        return model

    async def watch(self) -> None:
        """Keep the front model and the default model loaded, also when Triton restarts.

        A default model that made room for others is not loaded until a request needs it.
        """
        last_problem, settings = "", self._settings
        pause = settings.watch_interval
        while True:
            try:
                model = await self.name()
                if await self._models.has_room_for(model):
                    await self._models.ensure_ready(model)
                last_problem, pause = "", settings.watch_interval
            except TritonUnavailable:
                pause = settings.poll_interval  # it starts
            except ServiceError as error:
                if error.message != last_problem:
                    log.warning("the default model is not ready: %s", error.message)
                last_problem, pause = error.message, min(2 * pause, settings.retry_interval)
            except Exception:
                log.exception("the default model cannot be watched")
                pause = settings.retry_interval
            await asyncio.sleep(pause)


def choose(variants: list[Variant], wanted: str) -> str:
    """`wanted`, else the first model of the hub with cached weights, else the tiny model.

    Raises `EngineUnavailable` when that model is not among the variants.
    """
    weights = {variant.name: variant.weights for variant in variants}
    if not wanted:
        cached = (name for name in PREFERENCE if weights.get(name) == "cached")
        wanted = next(cached, FALLBACK)
    try:
        return resolve(wanted, weights)
    except UnknownModel:
        remedy = f"set DEFAULT_MODEL to one of {', '.join(weights)}"
        if not weights:
            remedy = "nor is any other; put models into the model repository"
        raise EngineUnavailable(f"The default model {wanted!r} is not here; {remedy}.") from None


def resolve(spelling: str, known: Collection[str]) -> str:
    """The name in `known` that `spelling` means.

    Accepts the hub's ids (`facebook/musicgen-small`) and the other word order in use
    (`musicgen-small-stereo` for `musicgen-stereo-small`). Raises `UnknownModel`.
    """
    name = spelling.removeprefix("facebook/")
    other = name
    if name.endswith("-stereo"):
        other = name.removesuffix("-stereo").replace("musicgen-", "musicgen-stereo-", 1)
    for candidate in (name, other):
        if candidate in known:
            return candidate
    raise UnknownModel(
        f"There is no model {spelling[:100]!r} here; choose one of {', '.join(sorted(known))}.",
        field="model",
    )
