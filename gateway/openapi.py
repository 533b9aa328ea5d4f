"""The HTTP API as OpenAPI: openapi.yaml, with the tables of fields and errors filled in."""

from __future__ import annotations

from dataclasses import MISSING
from pathlib import Path
from typing import Any

import yaml

from gateway import __version__
from gateway.request import OPTIONS, form_fields, json_fields
from protocol.errors import ExpectationFailed, MethodNotAllowed, ServiceError
from protocol.fields import Field
from protocol.section import CHANGE_FIELDS

EVERYWHERE = (MethodNotAllowed, ExpectationFailed)  # responses of every path, told once for all
FILE = Path(__file__).with_name("openapi.yaml")


def describe(max_duration: float) -> dict[str, Any]:
    """The document of a service whose songs last at most `max_duration` seconds."""
    document: dict[str, Any] = yaml.safe_load(FILE.read_text("utf-8"))
    document["info"]["version"] = __version__
    components = document["components"]
    for name, fields in {
        "Song": json_fields(max_duration),
        "SongForm": form_fields(max_duration),
        "Change": CHANGE_FIELDS,
    }.items():
        _fill_schema(components["schemas"][name], fields)
    document["paths"]["/encode"]["post"]["parameters"][0]["schema"] = OPTIONS["format"].row.schema
    errors = [kind for kind in ServiceError.codes.values() if kind.status is not None]
    reason = components["schemas"]["Reason"]["properties"]
    reason["code"]["enum"] = sorted(kind.code for kind in errors)
    for kind in errors:
        if kind not in EVERYWHERE:
            _fill_response(components["responses"].setdefault(str(kind.status), {}), kind)
    return document


def _fill_schema(schema: dict[str, Any], fields: dict[str, Field]) -> None:
    """Add the fields; what openapi.yaml says of one is added to its row.

    A default stands in words: for `default`, openapi-typescript would require the field.
    """
    static = schema["properties"]
    schema["properties"] = {
        name: {"description": _describe(field), **_merged(field.row.schema, static.get(name, {}))}
        for name, field in fields.items()
    }


def _merged(schema: dict[str, Any], more: dict[str, Any]) -> dict[str, Any]:
    both = {name: _merged(schema[name], more[name]) for name in _objects(schema) & _objects(more)}
    return {**schema, **more, **both}


def _objects(schema: dict[str, Any]) -> set[str]:
    return {name for name, value in schema.items() if isinstance(value, dict)}


def _describe(field: Field) -> str:
    if field.default is MISSING:
        return f"{field.row.doc}, {field.shown_default}."
    return f"{field.row.doc}. Default: {field.shown_default}."


def _fill_response(response: dict[str, Any], kind: type[ServiceError]) -> None:
    """Add an error to the response of its status."""
    sentence = f"`{kind.code}`: {kind.doc()}"
    response["description"] = f"{response.get('description', '')} {sentence}".strip()
    headers = response.setdefault("headers", {})
    headers["X-Request-Id"] = {"$ref": "#/components/headers/X-Request-Id"}
    if kind.default_retry_after is not None:
        headers["Retry-After"] = {"$ref": "#/components/headers/Retry-After"}
    error = {"schema": {"$ref": "#/components/schemas/Error"}}
    response["content"] = {"application/json": error}
