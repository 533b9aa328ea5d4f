"""The tree in the docstring is the tree of the classes."""

import re

from gateway import errors
from gateway.errors import GatewayError, Unavailable


def kinds(kind: type[GatewayError]) -> list[type[GatewayError]]:
    return [kind, *(below for child in kind.__subclasses__() for below in kinds(child))]


def test_every_error_is_drawn_with_its_status_and_code() -> None:
    tree = (errors.__doc__ or "").split("\n\n")[1]
    drawn = dict(re.findall(r"(\w+) {2,}(.+)", tree))
    assert set(drawn) == {kind.__name__ for kind in kinds(GatewayError)}
    for kind in kinds(GatewayError):
        if kind in kinds(Unavailable)[1:]:
            assert kind.status == 503
        else:
            assert drawn[kind.__name__].startswith(str(kind.status))
        if "code" in vars(kind):
            assert drawn[kind.__name__].endswith(kind.code)


def test_who_shall_come_back_is_told_when() -> None:
    for kind in kinds(GatewayError):
        assert (kind.retry_after is not None) == (kind.status in (429, 503))
