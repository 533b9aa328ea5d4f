"""openapi.yaml is true: it says what the code says, and schemathesis finds nothing else."""

import dataclasses
import io
import json
import urllib.error
import urllib.request
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import schemathesis
import soundfile
from hypothesis import settings as examples
from schemathesis.transport.serialization import Binary

from gateway import song
from gateway.app import create_app
from gateway.cors import EXPOSED
from gateway.errors import GatewayError, MethodNotAllowed
from gateway.formats import FORMATS
from gateway.openapi import describe
from gateway.page import page_routes
from gateway.progress import Job
from gateway.routes import PUBLIC_PATHS
from gateway.settings import Settings
from tests.gateway.conftest import running
from tests.gateway.fake_triton import FakeTriton
from tests.gateway.test_errors import kinds

DOCUMENT = describe(300.0)
SCHEMAS, ANSWERS = DOCUMENT["components"]["schemas"], DOCUMENT["components"]["responses"]
OPERATIONS = {
    (method.upper(), path): operation
    for path, operations in DOCUMENT["paths"].items()
    for method, operation in operations.items()
}
MADE = OPERATIONS["POST", "/generate"]["responses"]["200"]
FIELDS: dict[str, Any] = SCHEMAS["Song"]["properties"]
FORM: dict[str, Any] = SCHEMAS["Continuation"]["properties"]


def test_it_has_the_applications_routes(settings: Settings) -> None:
    page = {route.path for route in page_routes(settings.web)}
    routes = {
        (route.method, route.resource.canonical)
        for route in create_app(settings, FakeTriton()).router.routes()
        if route.resource and route.resource.canonical not in page and route.method != "HEAD"
    }
    assert routes == OPERATIONS.keys()


def test_it_tells_what_needs_no_key() -> None:
    told = {path for (_, path), operation in OPERATIONS.items() if operation.get("security") == []}
    assert told == set(PUBLIC_PATHS)


def test_it_has_the_fields_of_a_song() -> None:
    assert FIELDS.keys() == set(song.FIELDS)
    assert FORM.keys() == {*song.FIELDS, "output", "audio"}
    assert all(FORM[name] == FIELDS[name] for name in FIELDS if name != "duration")


@pytest.mark.parametrize("name", song.NUMBERS)
def test_it_has_the_ranges_of_numbers(name: str) -> None:
    told, limits = FIELDS[name], song.NUMBERS[name]
    if name == "temperature":
        assert told["anyOf"][0] == {"const": limits.low}
        assert told["anyOf"][1] == {"minimum": song.COLDEST, "maximum": limits.high}
    else:
        assert (told["minimum"], told["maximum"]) == limits
    assert told["type"] == ("integer" if limits.whole else "number")


def test_it_has_the_other_limits() -> None:
    assert FIELDS["prompt"]["maxLength"] == song.MAX_PROMPT
    assert tuple(FIELDS["format"]["enum"]) == tuple(FORMATS)
    assert tuple(FORM["output"]["enum"]) == song.OUTPUTS
    assert MADE["content"].keys() == {
        new(1, 32_000, 1, {}).content_type for new in FORMATS.values()
    }


def test_it_has_the_defaults() -> None:
    defaults = {
        field.name: field.default
        for field in dataclasses.fields(song.Song)
        if field.default not in (dataclasses.MISSING, None)
    }
    defaults |= {"duration": song.DEFAULT_DURATION}
    assert {name: told["default"] for name, told in FIELDS.items() if "default" in told} == defaults
    assert FORM["output"]["default"] == song.OUTPUTS[0]


@pytest.mark.parametrize("kind", kinds(GatewayError))
def test_it_has_every_error(kind: type[GatewayError]) -> None:
    if "code" in vars(kind) and kind is not MethodNotAllowed:
        answer = ANSWERS[str(kind.status)]
        assert f"`{kind.code}`" in answer["description"]
        assert ("Retry-After" in answer["headers"]) == (kind.retry_after is not None)


def test_it_has_no_other_errors() -> None:
    codes = {kind.code for kind in kinds(GatewayError) if "code" in vars(kind)}
    assert set(SCHEMAS["Reason"]["properties"]["code"]["enum"]) == codes
    assert set(ANSWERS) == {str(kind.status) for kind in kinds(GatewayError)} - {"405"}


def test_it_has_what_is_told_of_progress() -> None:
    assert SCHEMAS["Progress"]["properties"].keys() == {*Job("tiny", 50).snapshot(), "download"}


def test_other_origins_pages_see_the_headers_that_it_tells_of() -> None:
    told = {name for answer in (MADE, ANSWERS["429"]) for name in answer["headers"]}
    assert set(EXPOSED) == told - {"Content-Length"}  # which they see anyway


def beginning() -> bytes:
    """The shortest that a song can go on from."""
    file = io.BytesIO()
    soundfile.write(file, 0.5 * np.sin(np.arange(640) / 10), 32_000, format="WAV")
    return file.getvalue()


api = schemathesis.openapi.from_dict(describe(1.0))


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    """Of a gateway whose songs are short, so that there can be many."""
    with running(Settings(max_duration=1.0, poll_interval=0.01), FakeTriton("musicgen-tiny")) as it:
        while True:
            try:
                urllib.request.urlopen(f"{it}/readyz").close()
            except urllib.error.HTTPError as error:
                error.close()
                continue
            yield it
            return


def test_it_is_served_with_this_services_longest_duration(address: str) -> None:
    with urllib.request.urlopen(f"{address}/openapi.json") as answer:
        assert json.load(answer) == json.loads(json.dumps(describe(1.0)))


@api.parametrize()
@examples(max_examples=30, deadline=None, derandomize=True, database=None)
def test_schemathesis_finds_nothing(address: str, case: schemathesis.Case) -> None:
    form = case.body if isinstance(case.body, dict) else {}
    if isinstance(form.get("audio"), Binary):  # in all that it draws there is no music
        form["audio"] = Binary(beginning())
    case.call_and_validate(base_url=address)
