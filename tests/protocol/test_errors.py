"""An error keeps its kind on its way through processes that carry text alone."""

import re

import pytest

from protocol import errors
from protocol.errors import EngineUnavailable, GenerationFailed, ServiceError

KINDS = ServiceError.__subclasses__()


@pytest.mark.parametrize("kind", KINDS)
def test_text_carries_the_kind(kind: type[ServiceError]) -> None:
    error = ServiceError.parse(f"Triton says: {kind('what and what to do')}")
    assert type(error) is kind
    assert error.message == "what and what to do"


def test_every_kind_is_drawn() -> None:
    assert set(re.findall(r"[├└]── (\w+)", errors.__doc__ or "")) == {k.__name__ for k in KINDS}


def test_codes_are_unique() -> None:
    assert len({kind.code for kind in KINDS}) == len(KINDS)


def test_tritons_own_text_means_an_engine_that_is_not_there_and_goes_no_further() -> None:
    error = ServiceError.parse("Stub process '/srv/x' is not healthy.")
    assert type(error) is EngineUnavailable
    assert "/srv" not in error.message


def test_a_code_nobody_knows_is_a_failed_generation() -> None:
    assert type(ServiceError.of("novel", "…")) is GenerationFailed
