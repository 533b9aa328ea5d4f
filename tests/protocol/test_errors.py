"""The table of errors: every row is complete and survives its way between processes."""

import json
from typing import Any

import pytest

from protocol.errors import GenerationFailed, InvalidField, QueueFull, ServiceError

KINDS = list(ServiceError.codes.values())


@pytest.mark.parametrize("kind", KINDS)
def test_an_error_survives_as_data(kind: type[ServiceError]) -> None:
    error = kind("cause; remedy", "seed", 7, limits={"minimum": 0})
    copy = ServiceError.of(json.loads(json.dumps(error.data())))
    assert type(copy) is kind
    assert (copy.message, copy.field, copy.retry_after) == ("cause; remedy", "seed", 7)
    assert copy.limits == {"minimum": 0}


@pytest.mark.parametrize("kind", KINDS)
def test_text_over_triton_carries_the_kind(kind: type[ServiceError]) -> None:
    error = ServiceError.tagged(f"Triton says: {kind('cause; remedy')}")
    assert type(error) is kind
    assert error.message == "cause; remedy"


def test_codes_and_tags_are_unique() -> None:
    classes = ServiceError.__subclasses__()
    assert len({kind.code for kind in classes}) == len({kind.tag for kind in classes})
    assert set(KINDS) == set(classes)


def test_an_error_gets_to_http_or_to_triton() -> None:
    assert all(kind.status or kind.triton for kind in KINDS)


def test_a_text_of_tritons_own_is_no_error_of_ours() -> None:
    assert ServiceError.tagged("Stub process '/srv/x' is not healthy.") is None


def test_an_unknown_code_is_a_failed_generation() -> None:
    data: dict[str, Any] = {
        "code": "novel",
        "message": "…",
        "field": None,
        "limits": {},
        "retry_after": None,
    }
    assert type(ServiceError.of(data)) is GenerationFailed
    assert type(ServiceError.tagged("[novel] …")) is GenerationFailed


def test_over_triton_the_message_names_the_input() -> None:
    error = InvalidField.of_field("top_k", "is -1; give 0 to 1000000")
    assert error.message == "top_k is -1; give 0 to 1000000."
    assert str(error) == "[invalid_input] TOP_K is -1; give 0 to 1000000."


def test_a_kind_has_a_time_to_retry_by_default() -> None:
    assert QueueFull("full").retry_after == 10
    assert QueueFull("full", retry_after=3).retry_after == 3
    assert InvalidField("wrong").retry_after is None
