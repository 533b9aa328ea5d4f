"""What the gateway asks of Triton, in its own words."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from gateway.errors import GatewayError, ModelLoading
from gateway.song import Song
from gateway.upload import Audio

FRONT = "musicgen"


@dataclass(frozen=True)
class Variant:
    """A model that can be asked for. `weights` are bundled, cached or missing; `size` is as "300M"
    and `channels` are "mono" or "stereo", where that is known."""

    name: str
    checkpoint: str | None
    license: str
    weights: str
    size: str | None = None
    channels: str | None = None


@dataclass(frozen=True)
class Ready:
    """A song can be made; `busy` while there are others, whoever asked for them."""

    busy: bool = False


@dataclass(frozen=True)
class Loading:
    """`bytes` of the weights were downloaded, of `total_bytes` where that is known."""

    bytes: int = 0
    total_bytes: int | None = None

    def describe(self, model: str) -> str:
        total = f" of {self.total_bytes / 1e6:.0f}" if self.total_bytes else ""
        progress = f": {self.bytes / 1e6:.0f}{total} MB downloaded" if self.bytes else ""
        return f"{model} is loading{progress}"

    def error(self, model: str) -> ModelLoading:
        """What a caller hears who cannot wait longer."""
        return ModelLoading(f"{self.describe(model)}; try again soon.")


@dataclass(frozen=True)
class Failed:
    """The engine gave up; `error` says why."""

    error: GatewayError


Status: TypeAlias = Ready | Loading | Failed


@dataclass(frozen=True)
class Progress:
    """How a song fares: `loading` (its model), `queued` (at `position`, 1 is next), `generating`,
    `done` or `failed`; `frames` are made."""

    state: str
    position: int | None = None
    frames: int = 0


@dataclass(frozen=True)
class Chunk:
    """The song's next piece: float32 [channels, samples], and the codes [codebooks, frames] that
    were made since the last one. `revision` is that of the weights."""

    audio: NDArray[np.float32]
    codes: NDArray[np.int32]
    sample_rate: int
    revision: str
    progress: Progress

    @property
    def seconds(self) -> float:
        return self.audio.shape[1] / self.sample_rate


@dataclass(frozen=True)
class Held:
    """What is here of a song: with it, a song that broke off goes on as it would have. `audio` is
    what it begins with, until the codes of that are here.
    """

    codes: tuple[NDArray[np.int32], ...] = ()
    samples: int = 0  # per channel, that need not be played (again)
    revision: str | None = None
    audio: Audio | None = None

    @property
    def frames(self) -> int:
        return sum(codes.shape[1] for codes in self.codes)

    def with_(self, chunk: Chunk) -> Held:
        samples = self.samples + chunk.audio.shape[1]
        return Held((*self.codes, chunk.codes), samples, chunk.revision)


class Triton(Protocol):
    """All methods raise `TritonUnavailable` when Triton does not answer.

    `catalogue`, `status` and `generate` also raise `NotLoaded` and `DeadStub`.
    """

    async def catalogue(self) -> list[Variant]:
        """Every variant of the model repository, loaded or not."""

    async def loaded(self) -> set[str]:
        """Names of the variants that Triton holds, dead stubs included."""

    async def status(self, model: str) -> Status: ...

    async def load(self, model: str) -> None:
        """Returns when the stub is up. Raises `EngineUnavailable`."""

    async def unload(self, model: str) -> None:
        """Returns when the model is gone, or as good as gone: running songs end first."""

    def generate(
        self, model: str, song: Song, held: Held
    ) -> AsyncGenerator[Progress | Chunk, None]:
        """What is missing of the song. Ends after the last chunk. Closing it cancels the song.

        Raises `WeightsChanged` when what is held was made with others than the model has.
        """
