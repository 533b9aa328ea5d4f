"""/openapi.json agrees with the tables and the routes, and schemathesis finds no difference."""

import io
import json
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import MISSING
from typing import Any

import numpy as np
import pytest
import schemathesis
import soundfile
from hypothesis import settings as examples
from schemathesis.specs.openapi.checks import negative_data_rejection
from schemathesis.transport.serialization import Binary

from gateway.app import create_app, page_routes
from gateway.audio.formats import FORMATS
from gateway.cors import EXPOSED
from gateway.openapi import EVERYWHERE, describe
from gateway.progress import Job
from gateway.request import form_fields, json_fields
from gateway.routes import PUBLIC_PATHS
from gateway.settings import GatewaySettings
from protocol.errors import ServiceError
from protocol.fields import Number
from protocol.prompt import MAX_PROMPT
from protocol.section import MAX_SECTIONS
from protocol.settings import MAX_SECONDS
from tests.gateway.conftest import running
from tests.gateway.fake_triton import FakeTriton

DOCUMENT = describe(300.0)
SCHEMAS, RESPONSES = DOCUMENT["components"]["schemas"], DOCUMENT["components"]["responses"]
OPERATIONS = {
    (method.upper(), path): operation
    for path, operations in DOCUMENT["paths"].items()
    for method, operation in operations.items()
}
CREATED = OPERATIONS["POST", "/generate"]["responses"]["200"]
FIELDS: dict[str, Any] = SCHEMAS["Song"]["properties"]
FORM: dict[str, Any] = SCHEMAS["SongForm"]["properties"]
JSON_TABLE, FORM_TABLE = json_fields(300.0), form_fields(300.0)
HTTP_ERRORS = [kind for kind in ServiceError.codes.values() if kind.status is not None]


def test_it_has_all_routes(settings: GatewaySettings) -> None:
    page = {route.path for route in page_routes(settings.web)}
    routes = {
        (route.method, route.resource.canonical)
        for route in create_app(settings).router.routes()
        if route.resource and route.resource.canonical not in page and route.method != "HEAD"
    }
    assert routes == OPERATIONS.keys()


def test_it_says_which_paths_need_no_key() -> None:
    public = {
        path for (_, path), operation in OPERATIONS.items() if operation.get("security") == []
    }
    assert public == set(PUBLIC_PATHS)


def test_it_has_the_fields_of_a_song() -> None:
    assert FIELDS.keys() == JSON_TABLE.keys()
    assert (
        FORM.keys() == FORM_TABLE.keys() == {*JSON_TABLE, "output", "audio", "melody", "separate"}
    )
    assert all(FORM[name] == FIELDS[name] for name in FIELDS if name not in ("prompt", "duration"))
    assert all("required" not in SCHEMAS[name] for name in ("Song", "SongForm"))
    assert all(field["description"] for field in FORM.values())


def test_it_has_the_ranges_of_numbers() -> None:
    numbers = {
        name: field.row for name, field in JSON_TABLE.items() if isinstance(field.row, Number)
    }
    assert numbers.keys() >= {"seed", "temperature", "top_k", "top_p", "cfg_coef"}
    for name, row in numbers.items():
        schema = FIELDS[name]
        assert (schema["minimum"], schema["maximum"]) == (row.low, row.high)
        assert schema["type"] == ("integer" if row.whole else "number")


def test_it_has_the_other_limits() -> None:
    assert FIELDS["prompt"]["maxLength"] == MAX_PROMPT
    [of_encode] = OPERATIONS["POST", "/encode"]["parameters"]
    for schema in (FIELDS["format"], of_encode["schema"]):
        assert tuple(schema["enum"]) == tuple(FORMATS)
    assert FORM["output"]["enum"] == ["whole", "new"]
    encoders = [new(1, 32_000, 1, {}) for new in FORMATS.values()]
    generic = {"application/octet-stream"}
    assert CREATED["content"].keys() - generic == {encoder.content_type for encoder in encoders}


def test_it_has_the_defaults_in_words_alone() -> None:
    for name, field in FORM_TABLE.items():
        said = f"Default: {field.shown_default}." in FORM[name]["description"]
        assert said == (field.default is not MISSING)
        assert "default" not in FORM[name]
    assert FORM["duration"]["description"].endswith("Default: 30.")
    assert FORM["output"]["description"].endswith("Default: `whole`.")


@pytest.mark.parametrize("kind", HTTP_ERRORS)
def test_it_has_every_error(kind: type[ServiceError]) -> None:
    if kind in EVERYWHERE:
        assert f"{kind.status}, the code `{kind.code}`" in DOCUMENT["info"]["description"]
    else:
        response = RESPONSES[str(kind.status)]
        assert f"`{kind.code}`" in response["description"]
        assert ("Retry-After" in response["headers"]) == (kind.default_retry_after is not None)


def test_it_has_no_other_errors() -> None:
    codes = {kind.code for kind in HTTP_ERRORS}
    assert set(SCHEMAS["Reason"]["properties"]["code"]["enum"]) == codes
    assert set(RESPONSES) == {str(kind.status) for kind in HTTP_ERRORS} - {"405", "417"}


def test_it_has_the_fields_of_progress() -> None:
    assert SCHEMAS["Progress"]["properties"].keys() == {*Job("tiny", 50).snapshot(), "download"}


def test_cors_exposes_the_headers_that_it_has() -> None:
    headers = {name for response in (CREATED, RESPONSES["429"]) for name in response["headers"]}
    assert set(EXPOSED) == headers - {"Content-Length"}  # which is always exposed


def beginning() -> bytes:
    """The shortest file that a song can continue."""
    file = io.BytesIO()
    soundfile.write(file, 0.5 * np.sin(np.arange(640) / 10), 32_000, format="WAV")
    return file.getvalue()


def has_duration(section: Any) -> bool:
    """Whether it is an object with a right duration."""
    duration = section.get("duration") if isinstance(section, dict) else None
    return isinstance(duration, float | int) and 0.02 <= duration <= MAX_SECONDS


TRIED = describe(1.0)
# schemathesis cannot make wrong forms with files where no field is required.
TRIED["components"]["schemas"]["SongForm"]["required"] = ["prompt"]
api = schemathesis.openapi.from_dict(TRIED)
several = examples(max_examples=30, deadline=None, derandomize=True, database=None)
schemathesis.serializer.alias("audio/wav", "application/octet-stream")


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    """The address of a gateway whose songs are short."""
    with running(
        GatewaySettings(max_duration=1.0, poll_interval=0.01), FakeTriton("musicgen-tiny")
    ) as url:
        while True:
            try:
                urllib.request.urlopen(f"{url}/readyz").close()
            except urllib.error.HTTPError as error:
                error.close()
                continue
            yield url
            return


def test_it_is_served_with_the_services_longest_duration(address: str) -> None:
    with urllib.request.urlopen(f"{address}/openapi.json") as response:
        assert json.load(response) == json.loads(json.dumps(describe(1.0)))


@api.exclude(name="POST /generate").parametrize()
@several
def test_schemathesis_finds_nothing(address: str, case: schemathesis.Case) -> None:
    validate(address, case)


@pytest.mark.slow
@api.include(name="POST /generate").parametrize()
@several
def test_schemathesis_finds_nothing_in_songs(address: str, case: schemathesis.Case) -> None:
    validate(address, case)


def validate(address: str, case: schemathesis.Case) -> None:
    body: dict[str, Any] = case.body if isinstance(case.body, dict) else {}
    for name in ("audio", "melody"):
        if isinstance(body.get(name), Binary):  # its random bytes are no audio
            body[name] = Binary(beginning())
    sections = body.get("sections")
    left_out = []  # perhaps what is wrong
    if "sections" not in body:
        body.setdefault("prompt", "jazz")
    elif isinstance(sections, list):
        left_out += [body.pop(name, None) for name in ("prompt", "duration")]
        if len(sections) <= MAX_SECTIONS:  # no schema can bound the sum of their durations
            left_out += sections[16:]
            del sections[16:]
        for section in filter(has_duration, sections):
            section["duration"] = 0.03
    # No schema can compare these numbers with the song's length, or with each other.
    for name in ("fade_in", "fade_out", "loop", "bars", "bpm", "loudness"):
        if isinstance(body.get(name), bool | int | float):
            left_out.append(body.pop(name))
    chroma = body.get("chroma")
    if isinstance(chroma, list) and len({len(row) for row in chroma if isinstance(row, list)}) > 1:
        left_out.append(body.pop("chroma"))  # no schema can say that all rows are equally long
    if case.media_type == "multipart/form-data":  # the two rules that a schema of forms cannot say
        if "melody" in body:
            left_out.append(body.pop("chroma", None))
        else:
            body.setdefault("audio", Binary(beginning()))
    if isinstance(case.body, Binary):  # of /encode
        case.body = Binary(beginning())
    case.query.pop("wait", None)  # there is nothing to wait for
    # Wrong by the schema, and allowed: null, and in a form or an address all texts that are right.
    is_text = case.media_type == "multipart/form-data" or case.path == "/encode"
    lenient = is_text or None in body.values() or any(left_out)
    excluded = [negative_data_rejection] if lenient else []
    case.call_and_validate(base_url=address, excluded_checks=excluded)
