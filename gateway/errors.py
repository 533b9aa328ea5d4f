"""Every way in which the gateway says no.

    GatewayError                 500 internal
    ├── InvalidJson              400 invalid_json
    ├── InvalidForm              400 invalid_form
    ├── Unauthorized             401 unauthorized
    ├── ForeignOrigin            403 foreign_origin
    ├── NotFound                 404 not_found
    ├── UnknownModel             404 unknown_model
    ├── MethodNotAllowed         405 method_not_allowed
    ├── BodyTooSlow              408 body_too_slow
    ├── BodyTooLarge             413 body_too_large
    ├── UnsupportedMediaType     415 unsupported_media_type
    ├── InvalidField             422 invalid_field
    ├── QueueFull                429 queue_full
    ├── TooManySongs             429 too_many_songs
    ├── Unavailable              503, a kind below
    │   ├── TritonUnavailable    triton_unavailable
    │   ├── WeightsMissing       weights_missing
    │   ├── ModelLoading         model_loading
    │   ├── WeightsChanged       weights_changed
    │   └── EngineUnavailable    engine_unavailable
    │       ├── DeadStub         Triton calls the model ready, but nobody answers
    │       └── NotLoaded        Triton does not hold the model
    └── TooSlow                  504 too_slow

`middleware.py` turns them into HTTP. Messages go to the caller as they are: they name the field,
the value and the remedy, and never hold Triton's own text or a path of the server.
"""

from __future__ import annotations

import re
from typing import Any, ClassVar


class GatewayError(Exception):
    """`field` is the JSON field at fault; `retry_after` (seconds) becomes Retry-After."""

    status: ClassVar[int] = 500
    code: ClassVar[str] = "internal"
    retry_after: ClassVar[int | None] = None

    def __init__(self, message: str, field: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.field = field

    def body(self) -> dict[str, Any]:
        """The one JSON shape of every error."""
        return {"error": {"code": self.code, "message": self.message, "field": self.field}}

    def headers(self) -> dict[str, str]:
        return {} if self.retry_after is None else {"Retry-After": str(self.retry_after)}


class InvalidJson(GatewayError):
    status = 400
    code = "invalid_json"


class InvalidForm(GatewayError):
    status = 400
    code = "invalid_form"


class Unauthorized(GatewayError):
    """`error` is RFC 6750's: what is wrong with the key, None where there is none."""

    status = 401
    code = "unauthorized"

    def __init__(self, message: str, error: str | None = None) -> None:
        super().__init__(message)
        self.error = error

    def headers(self) -> dict[str, str]:
        what = f', error="{self.error}"' if self.error else ""
        return {"WWW-Authenticate": f'Bearer realm="audiocraft-service"{what}'}


class ForeignOrigin(GatewayError):
    status = 403
    code = "foreign_origin"


class NotFound(GatewayError):
    status = 404
    code = "not_found"


class UnknownModel(GatewayError):
    status = 404
    code = "unknown_model"


class MethodNotAllowed(GatewayError):
    status = 405
    code = "method_not_allowed"

    def __init__(self, message: str, allowed: str) -> None:
        super().__init__(message)
        self.allowed = allowed

    def headers(self) -> dict[str, str]:
        return {"Allow": self.allowed}


class BodyTooSlow(GatewayError):
    status = 408
    code = "body_too_slow"


class BodyTooLarge(GatewayError):
    status = 413
    code = "body_too_large"


class UnsupportedMediaType(GatewayError):
    status = 415
    code = "unsupported_media_type"


class InvalidField(GatewayError):
    status = 422
    code = "invalid_field"


class QueueFull(GatewayError):
    """Its message may end in when to ask again, as the engine measured it."""

    status = 429
    code = "queue_full"
    retry_after = 10

    def headers(self) -> dict[str, str]:
        told = re.search(r"ask again in (\d+) s$", self.message)
        return {"Retry-After": told[1]} if told else super().headers()


class TooManySongs(GatewayError):
    status = 429
    code = "too_many_songs"
    retry_after = 10


class Unavailable(GatewayError):
    status = 503
    retry_after = 10


class TritonUnavailable(Unavailable):
    code = "triton_unavailable"

    def __init__(self) -> None:
        super().__init__("The music server behind the gateway does not answer; try again soon.")


class WeightsMissing(Unavailable):
    code = "weights_missing"
    retry_after = 60


class ModelLoading(Unavailable):
    code = "model_loading"


class WeightsChanged(Unavailable):
    code = "weights_changed"


class EngineUnavailable(Unavailable):
    code = "engine_unavailable"


class DeadStub(EngineUnavailable):
    def __init__(self, model: str) -> None:
        super().__init__(f"The engine of {model!r} does not answer; try again soon.")


class NotLoaded(EngineUnavailable):
    def __init__(self, model: str) -> None:
        super().__init__(f"The model {model!r} is not loaded any more; try again soon.")


class TooSlow(GatewayError):
    status = 504
    code = "too_slow"
