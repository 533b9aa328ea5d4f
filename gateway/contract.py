"""The interface that the gateway needs of Triton, and its types."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeAlias

from protocol.constants import NO_CHROMA, Chroma, Codes, Samples
from protocol.errors import EngineUnavailable, ModelLoading, ServiceError, TritonUnavailable
from protocol.request import GenerationRequest
from protocol.section import Section
from protocol.variant import Variant

FRONT = "musicgen"
# Errors that pass when an engine, a stub or Triton restarts.
TRANSIENT = (EngineUnavailable, TritonUnavailable, ModelLoading)


class Unreachable(TritonUnavailable):
    """Triton does not answer. `reason` is for the log."""

    def __init__(self, reason: str) -> None:
        super().__init__("The music server behind the gateway does not answer; try again soon.")
        self._reason = reason

    def __str__(self) -> str:
        return f"{super().__str__()} ({self._reason})"


class DeadStub(EngineUnavailable):
    """Triton calls the model ready, but its stub does not answer."""

    def __init__(self, model: str) -> None:
        super().__init__(f"The engine of {model!r} does not answer; try again soon.")


class NotLoaded(EngineUnavailable):
    """Triton does not hold the model."""

    def __init__(self, model: str) -> None:
        super().__init__(f"The model {model!r} is not loaded any more; try again soon.")


@dataclass(frozen=True)
class Ready:
    """The model can generate `slots` songs at a time. `songs` run or wait, of all clients.
    `fallback` says why it runs otherwise than by its first choice, such as on the CPU. The queue
    refuses new songs for `full_for` seconds; 0: it takes them."""

    songs: int = 0
    slots: int = 1
    revision: str = ""
    fallback: str | None = None
    full_for: int = 0


@dataclass(frozen=True)
class Loading:
    """`bytes` of the weights are downloaded; `total_bytes` is None where it is unknown."""

    bytes: int = 0
    total_bytes: int | None = None

    def describe(self, model: str) -> str:
        total = f" of {self.total_bytes / 1e6:.0f}" if self.total_bytes else ""
        progress = f": {self.bytes / 1e6:.0f}{total} MB downloaded" if self.bytes else ""
        return f"{model} is loading{progress}"

    def error(self, model: str) -> ModelLoading:
        """The error for a client that cannot wait longer."""
        return ModelLoading(f"{self.describe(model)}; try again soon.")


@dataclass(frozen=True)
class Failed:
    """The engine failed; `error` says why."""

    error: ServiceError


Status: TypeAlias = Ready | Loading | Failed


@dataclass(frozen=True)
class Progress:
    """The state of one song: `loading` (its model), `queued` (at `position`; 1 is next),
    `separating` (its melody waits for the separator, at `position`), `generating`, `measuring` (the
    loudness of the whole song), `done`, `failed` or `cancelled`. `frames` are generated."""

    state: str
    position: int | None = None
    frames: int = 0


@dataclass(frozen=True)
class Chunk:
    """The next part of a song. `codes` are those since the last chunk; they run ahead of `audio`.
    `chroma` is the melody of the song as far as it is known, empty where it has none.
    `revision` is that of the weights."""

    audio: Samples
    codes: Codes
    sample_rate: int
    revision: str
    progress: Progress
    chroma: Chroma = field(default_factory=lambda: NO_CHROMA)

    @property
    def seconds(self) -> float:
        return self.audio.shape[1] / self.sample_rate


@dataclass(frozen=True)
class Changed:
    """A change of the song took effect with this frame; now it has these sections."""

    frame: int
    sections: tuple[Section, ...]


class Triton(Protocol):
    """All methods raise `TritonUnavailable` when Triton does not answer.

    `catalogue`, `status` and `generate` also raise `NotLoaded` and `DeadStub`, and
    `EngineUnavailable` for a response that is not of this service.
    """

    async def close(self) -> None: ...

    async def catalogue(self) -> list[Variant]:
        """Every variant of the model repository, loaded or not."""

    async def loaded(self) -> set[str]:
        """The names of the variants that Triton holds, those with dead stubs included."""

    async def status(self, model: str) -> Status: ...

    async def load(self, model: str) -> None:
        """Return when the stub is up. Raise `EngineUnavailable` when it cannot start."""

    async def unload(self, model: str) -> None:
        """Return when the model is gone, or after some seconds. Running songs end first."""

    def generate(
        self, model: str, request: GenerationRequest, number: int
    ) -> AsyncGenerator[Progress | Chunk | Changed, None]:
        """The rest of the song, to its last chunk. Closing the generator cancels the song. `number`
        names it, for `change`.

        Raises `WeightsChanged` when the request needs other weights than the model has.
        """

    async def change(self, model: str, number: int, values: dict[str, Any]) -> Changed:
        """Change a song from its next frame on; `values` are fields of a section. The song's own
        responses tell of the change, too, before anything that depends on it.

        Raises `SongEnded` when the model does not have the song.
        """
        ...
