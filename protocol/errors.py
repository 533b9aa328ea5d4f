"""Every error of the service. One class is one row of the table of error codes.

An error without an HTTP status never gets to HTTP, one without a Triton code never to Triton. Over
HTTP `gateway/middleware.py` turns an error into JSON. Over Triton its text is `[code] message`; in
a stream a STATUS with the same facts as data comes before it, so that a program reads no text.

A message goes to the caller as it is: it names the field, the value and the remedy, and never holds
the text of another library or a path of the server.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, ClassVar

from protocol.constants import input_name

NO_SHARED_MEMORY = (
    "Triton has no room for this song in /dev/shm; ask again later, or give the machine or the "
    "container more of it."
)
TAG = re.compile(r"\[(\w+)\] (.*)", re.DOTALL)  # the text of an error over Triton


class ServiceError(Exception):
    """`field` is the name of the request's field at fault, `limits` are those that its value
    breaks, as JSON schemas name them. `retry_after` is in seconds, after which the caller may ask
    again; `headers` are HTTP headers that belong to the error alone."""

    code: ClassVar[str]
    status: ClassVar[int | None]  # of HTTP
    triton: ClassVar[str | None]  # the name of a pb_utils.TritonError code
    tag: ClassVar[str]  # the code in Triton's text
    default_retry_after: ClassVar[int | None]
    codes: ClassVar[dict[str, type[ServiceError]]] = {}  # the table

    def __init_subclass__(
        cls,
        code: str = "",
        status: int | None = None,
        triton: str | None = None,
        tag: str = "",
        retry_after: int | None = None,
    ) -> None:
        if code:  # a class without a code is a special case of its parent
            cls.code, cls.status, cls.triton, cls.tag = code, status, triton, tag or code
            cls.default_retry_after = retry_after
            ServiceError.codes[code] = cls

    def __init__(
        self,
        message: str,
        field: str | None = None,
        retry_after: int | None = None,
        headers: dict[str, str] | None = None,
        limits: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.field = field
        self.retry_after = self.default_retry_after if retry_after is None else retry_after
        self.headers = headers or {}
        self.limits = dict(limits or {})

    def __str__(self) -> str:
        """The text of the error over Triton."""
        return f"[{self.tag}] {self.message}"

    def data(self) -> dict[str, Any]:
        """The error as data, for another process; `of` reads it."""
        return {
            "code": self.code,
            "message": self.message,
            "field": self.field,
            "limits": self.limits,
            "retry_after": self.retry_after,
        }

    @classmethod
    def doc(cls) -> str:
        """The meaning of the error, as the documents give it."""
        return " ".join((cls.__doc__ or "").split())

    @staticmethod
    def of(data: dict[str, Any]) -> ServiceError:
        """The error that `data` describes; one with an unknown code is a failed generation."""
        kind = ServiceError.codes.get(data["code"], GenerationFailed)
        return kind(data["message"], data["field"], data["retry_after"], limits=data["limits"])

    @staticmethod
    def tagged(text: str) -> ServiceError | None:
        """The error whose text over Triton is `text`; None for a text of Triton's own."""
        match = TAG.search(text)
        if match is None:
            return None
        kinds = {kind.tag: kind for kind in ServiceError.codes.values()}
        return kinds.get(match[1], GenerationFailed)(match[2])


class InvalidHttp(ServiceError, code="invalid_http", status=400):
    """The request is not HTTP, its address is over 8 KB, or its headers are over 64 KB."""


class InvalidJson(ServiceError, code="invalid_json", status=400):
    """The body is not JSON in UTF-8."""


class InvalidForm(ServiceError, code="invalid_form", status=400):
    """The body is not a form, though its type says so."""


class Unauthorized(ServiceError, code="unauthorized", status=401):
    """The service needs a key, and the request has none that it knows; see `WWW-Authenticate`."""


class ForeignOrigin(ServiceError, code="foreign_origin", status=403):
    """The request comes from a page of an origin that `CORS_ORIGINS` does not name."""


class NotFound(ServiceError, code="not_found", status=404):
    """There is no such path, or no such song."""


class UnknownModel(ServiceError, code="unknown_model", status=404, triton="NOT_FOUND"):
    """There is no such model."""


class SongEnded(ServiceError, code="song_ended", status=409, triton="NOT_FOUND"):
    """The song that is to change has ended, or all of it is being made."""


class MethodNotAllowed(ServiceError, code="method_not_allowed", status=405):
    """The path has other methods; `Allow` names them."""


class BodyTooSlow(ServiceError, code="body_too_slow", status=408):
    """The body came at less than 4 KB a second for 10 s, or took longer than five minutes."""


class BodyTooLarge(ServiceError, code="body_too_large", status=413):
    """The body is over 1 MB, the file over 32 MB, or the WAV longer than `MAX_DURATION`."""


class UnsupportedMediaType(ServiceError, code="unsupported_media_type", status=415):
    """The body is neither `application/json` nor a form; at `/encode`, no WAV."""


class ExpectationFailed(ServiceError, code="expectation_failed", status=417):
    """`Expect` asks for something else than `100-continue`."""


class InvalidField(
    ServiceError, code="invalid_field", status=422, triton="INVALID_ARG", tag="invalid_input"
):
    """A field is wrong, missing or unknown. Over Triton the message starts with the input's
    name."""

    @classmethod
    def of_field(cls, field: str, problem: str, **limits: Any) -> InvalidField:
        """`problem` continues the field's name: "is 0; give 1 to 5"; `limits` repeat it for
        programs: `minimum=1, maximum=5`."""
        return cls(f"{field} {problem}.", field, limits=limits)

    @classmethod
    def of_pair(cls, field: str, other: str) -> InvalidField:
        """The field and the other one exclude each other."""
        return cls.of_field(field, f"comes with {other}; send one of them", excludes=other)

    def __str__(self) -> str:
        if self.field and self.message.startswith(self.field):
            return f"[{self.tag}] {input_name(self.field)}{self.message[len(self.field) :]}"
        return super().__str__()


class QueueFull(ServiceError, code="queue_full", status=429, triton="UNAVAILABLE", retry_after=10):
    """Too many songs wait, too many files are being read or encoded, too many songs with `loudness`
    are being made, or this song would wait longer than `MAX_WAIT`. The engine computes
    `Retry-After` from its measured speed."""


class TooManyChanges(
    ServiceError, code="too_many_changes", status=429, triton="UNAVAILABLE", retry_after=1
):
    """The song was changed less than a quarter of a second ago, or has as many sections as it may
    have."""


class TooManySongs(ServiceError, code="too_many_songs", status=429, retry_after=10):
    """This key has `MAX_SONGS_PER_KEY` songs in progress."""


class Internal(ServiceError, code="internal", status=500):
    """The service is at fault; its log says more."""


class GenerationFailed(ServiceError, code="generation_failed", triton="INTERNAL"):
    """The model failed on this song alone."""


class NotFinite(GenerationFailed):
    def __init__(self) -> None:
        super().__init__(
            "the model's output is not finite, because its checkpoint or its backend is broken; "
            "choose another model"
        )


class Cancelled(ServiceError, code="cancelled", triton="CANCELLED"):
    """The client closed the request."""


class TritonUnavailable(ServiceError, code="triton_unavailable", status=503, retry_after=10):
    """Triton does not answer; the supervisor restarts it."""


class ModelLoading(
    ServiceError, code="model_loading", status=503, triton="UNAVAILABLE", retry_after=10
):
    """The model takes longer than `LOAD_TIMEOUT` to load, or its song was to change meanwhile.
    Loading goes on: ask again."""


class ModelNotLoaded(ServiceError, code="model_not_loaded", triton="UNAVAILABLE"):
    """Only from the model `musicgen`: load the variant first. From Triton 26.03 on also while the
    variant's engine has failed; its own `STATUS` says why."""


class WeightsMissing(
    ServiceError, code="weights_missing", status=503, triton="UNAVAILABLE", retry_after=60
):
    """The weights are not here and cannot be downloaded; the message says what to do."""


class WeightsChanged(
    ServiceError, code="weights_changed", status=503, triton="UNAVAILABLE", retry_after=10
):
    """The song started with other weights than the model has now."""


class EngineUnavailable(
    ServiceError, code="engine_unavailable", status=503, triton="UNAVAILABLE", retry_after=10
):
    """The model's engine process died, or its model does not fit; it is started again."""


class SharedMemoryFull(
    ServiceError, code="shared_memory_full", status=503, triton="UNAVAILABLE", retry_after=10
):
    """Triton has no room for the song in `/dev/shm`; give the machine or the container more."""


class TooSlow(ServiceError, code="too_slow", status=504):
    """The song took longer than `GENERATE_TIMEOUT`."""
