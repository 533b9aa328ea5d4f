"""Messages between a variant's stub and its engine process, and the states that they carry.

stub → engine     Submit, Change, Cancel
engine → stub     EngineReport, MetricsReport, SequenceReport, ChunkReport, ChangeReport,
                  FailureReport
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, ClassVar, TypeAlias

from protocol.constants import Chroma, Codes, Samples
from protocol.errors import ServiceError
from protocol.prompt import WeightedText
from protocol.request import GenerationRequest
from protocol.section import Section


class State:
    """A state of an engine or a sequence; as JSON it is a STATUS of docs/triton.md."""

    state: ClassVar[str]

    def json(self) -> dict[str, Any]:
        return {"state": self.state, **asdict(self)}  # type: ignore[call-overload]


@dataclass(frozen=True)
class LoadingState(State):
    """The model loads. `bytes` of the weights are downloaded, of `total_bytes` where known."""

    state: ClassVar[str] = "loading"
    bytes: int = 0
    total_bytes: int | None = None


@dataclass(frozen=True)
class ReadyState(State):
    """`fallback` says why backend, codec or device are not the first choice."""

    state: ClassVar[str] = "ready"
    revision: str
    device: str
    precision: str
    backend: str
    fallback: str | None
    slots: int
    channels: int
    codebooks: int
    melody: bool  # whether it takes one
    sample_rate: int


@dataclass(frozen=True)
class FailedState(State):
    """The model or the sequence failed; see protocol.errors."""

    state: ClassVar[str] = "failed"
    code: str
    message: str
    field: str | None
    limits: dict[str, Any]
    retry_after: int | None

    @classmethod
    def of(cls, error: ServiceError) -> FailedState:
        return cls(**error.data())

    @property
    def error(self) -> ServiceError:
        return ServiceError.of(asdict(self))


@dataclass(frozen=True)
class QueuedState(State):
    """`position` 1 is next."""

    state: ClassVar[str] = "queued"
    position: int


@dataclass(frozen=True)
class SeparatingState(QueuedState):
    """The song waits for its melody, which is still in a mix. That of `position` 1 is next."""

    state: ClassVar[str] = "separating"


@dataclass(frozen=True)
class GeneratingState(State):
    state: ClassVar[str] = "generating"
    frames: int
    total_frames: int


@dataclass(frozen=True)
class DoneState(GeneratingState):
    state: ClassVar[str] = "done"


EngineState: TypeAlias = LoadingState | ReadyState | FailedState
SequenceState: TypeAlias = LoadingState | QueuedState | GeneratingState | DoneState


@dataclass(frozen=True)
class Submit:
    id: int
    request_id: str  # the caller's name for it
    request: GenerationRequest


@dataclass(frozen=True)
class Change:
    """New values of a section's attributes, for the sequence `song` from its next frame on."""

    id: int
    song: int
    values: tuple[tuple[str, Any], ...]


@dataclass(frozen=True)
class Cancel:
    """The client of the sequence has gone."""

    id: int


@dataclass(frozen=True)
class EngineReport:
    """Sent at each change and every second. The queue refuses new songs for `full_for` seconds."""

    state: EngineState
    queued: int
    running: int
    full_for: int = 0

    def json(self) -> dict[str, Any]:
        counts = {"queued": self.queued, "running": self.running, "full_for": self.full_for}
        return {**self.state.json(), **counts}


@dataclass(frozen=True)
class MetricsReport:
    """Sent every second: gauges as they are, counters as what was added; see metrics.py."""

    values: dict[str, float]


@dataclass(frozen=True)
class SequenceReport:
    """Sent every second."""

    id: int
    state: SequenceState


@dataclass(frozen=True)
class ChunkReport:
    """The next part of a song: audio [channels, samples], and the codes [codebooks, frames] that
    were made since the last chunk; `chroma` is the melody of all windows, as far as it is known;
    `sections` is the timeline so far."""

    id: int
    audio: Samples
    codes: Codes
    chroma: Chroma
    sections: tuple[Section, ...]
    revision: str
    state: SequenceState
    last: bool


@dataclass(frozen=True)
class ChangeReport:
    """The change took effect with this frame; now the song has these sections."""

    id: int
    frame: int
    sections: tuple[Section, ...]

    def json(self) -> dict[str, Any]:
        return {"state": "changed", "frame": self.frame}


@dataclass(frozen=True)
class FailureReport:
    """The end of a sequence that failed, or of a change that was refused."""

    id: int
    reason: FailedState


Command: TypeAlias = Submit | Change | Cancel
STATES = (
    LoadingState,
    ReadyState,
    FailedState,
    QueuedState,
    SeparatingState,
    GeneratingState,
    DoneState,
)
REPORTS = (
    EngineReport,
    MetricsReport,
    SequenceReport,
    ChunkReport,
    ChangeReport,
    FailureReport,
)
TYPES: dict[str, type] = {  # all that can cross the channel, by name
    type_.__name__: type_
    for type_ in (
        *(Submit, Change, Cancel, GenerationRequest, Section, WeightedText),
        *REPORTS,
        *STATES,
    )
}
