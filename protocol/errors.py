"""What can go wrong with a song, and how Triton says it.

    ServiceError
    ├── InvalidInput        an input is missing, malformed or out of range
    ├── UnknownModel        no folder of the repository has this name
    ├── ModelNotLoaded      the variant is not loaded in Triton
    ├── QueueFull           too many songs wait already
    ├── WeightsMissing      the checkpoint is neither here nor to be had
    ├── WeightsChanged      the song was begun with other weights
    ├── EngineUnavailable   the engine process died, or keeps dying
    ├── Cancelled           the client went away
    └── GenerationFailed    the model failed on this song alone

The text of every error is `[code] message`. Triton's streams carry text alone, so the code in
brackets is what a client can rely on.
"""

from __future__ import annotations

import re
from typing import ClassVar


class ServiceError(Exception):
    """`code` names the error for programs, `triton_code` is the name of its `TritonError` code."""

    code: ClassVar[str]
    triton_code: ClassVar[str]

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message

    def __str__(self) -> str:
        return f"[{self.code}] {self.message}"

    @classmethod
    def of(cls, code: str, message: str) -> ServiceError:
        """The error that `code` names, as it came from another process."""
        kinds = {kind.code: kind for kind in ServiceError.__subclasses__()}
        return kinds.get(code, GenerationFailed)(message)

    @classmethod
    def parse(cls, text: str) -> ServiceError:
        """The error whose text `text` holds; any other is Triton's own: the engine is not there."""
        match = re.search(r"\[([a-z_]+)\] (.*)", text, re.DOTALL)
        if match:
            return cls.of(match[1], match[2])
        return EngineUnavailable("the model does not answer; ask again later")


class InvalidInput(ServiceError):
    """Its message starts with the name of the input and a colon."""

    code = "invalid_input"
    triton_code = "INVALID_ARG"


class UnknownModel(ServiceError):
    code = "unknown_model"
    triton_code = "NOT_FOUND"


class ModelNotLoaded(ServiceError):
    code = "model_not_loaded"
    triton_code = "UNAVAILABLE"


class QueueFull(ServiceError):
    code = "queue_full"
    triton_code = "UNAVAILABLE"


class WeightsMissing(ServiceError):
    code = "weights_missing"
    triton_code = "UNAVAILABLE"


class EngineUnavailable(ServiceError):
    code = "engine_unavailable"
    triton_code = "UNAVAILABLE"


class WeightsChanged(ServiceError):
    code = "weights_changed"
    triton_code = "UNAVAILABLE"


class Cancelled(ServiceError):
    code = "cancelled"
    triton_code = "CANCELLED"


class GenerationFailed(ServiceError):
    code = "generation_failed"
    triton_code = "INTERNAL"
