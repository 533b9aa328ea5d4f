"""Write the tables of the documents from the tables of the code.

    python -m docs.tables            write them
    python -m docs.tables --check    fail if a document is not up to date

A table stands between `<!-- table: NAME -->` and `<!-- end of table -->`.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import yaml

from gateway.request import form_fields as fields_of_a_form
from gateway.request import json_fields
from protocol.errors import ServiceError
from protocol.fields import Field
from protocol.request import FIELDS
from protocol.section import SECTION_FIELDS
from protocol.settings import MAX_SECONDS
from protocol.tensors import CHANGE, MODEL, STREAM

DOCUMENTS = [Path(__file__).with_name(name) for name in ("http.md", "triton.md", "operations.md")]
ALERTS = Path(__file__).parent.parent / "deploy" / "helm" / "files" / "alerts.yml"
MARKED = re.compile(r"(<!-- table: ([^>]+) -->\n).*?(<!-- end of table -->)", re.DOTALL)


def request_fields() -> str:
    return _fields(json_fields(MAX_SECONDS))


def form_fields() -> str:
    shared = json_fields(MAX_SECONDS)
    form = fields_of_a_form(MAX_SECONDS).items()
    return _fields({name: field for name, field in form if name not in shared})


def section_fields() -> str:
    return _fields(SECTION_FIELDS)


def inputs() -> str:
    rows = [
        (
            f"`{field.input}`",
            _data_type(field),
            _upper(field.row.doc),
            field.row.range,
            _upper(field.shown_default),
        )
        for field in FIELDS.values()
    ]
    stream = "For variants: true sends chunks, false one response"
    rows.append((f"`{STREAM['name']}`", "BOOL", stream, "", "false"))
    change = "For variants: the JSON of a change of the song that has the same sequence id"
    rows.append((f"`{CHANGE['name']}`", "BYTES", change, "", "none"))
    model = "For `musicgen` alone: the variant's name"
    rows.append((f"`{MODEL['name']}`", "BYTES", model, "", "required"))
    return _table("input | type | meaning | values | default", rows)


def errors() -> str:
    kinds = [kind for kind in ServiceError.codes.values() if kind.status is not None]
    rows = [(str(kind.status), f"`{kind.code}`", kind.doc()) for kind in kinds]
    return _table("status | code | meaning", rows)


def triton_errors() -> str:
    kinds = [kind for kind in ServiceError.codes.values() if kind.triton is not None]
    rows = [(f"`{kind.tag}`", str(kind.triton), kind.doc()) for kind in kinds]
    return _table("code | Triton's code | meaning", rows)


def alerts() -> str:
    [group] = yaml.safe_load(ALERTS.read_text())["groups"]
    rows = [
        (
            f"`{rule['alert']}`",
            f"`{rule['expr']}`" + (f" for {rule['for']}" if "for" in rule else ""),
            rule["annotations"]["description"],
        )
        for rule in group["rules"]
    ]
    return _table("alert | condition | meaning", rows)


TABLES: dict[str, Callable[[], str]] = {
    "request fields": request_fields,
    "form fields": form_fields,
    "section fields": section_fields,
    "inputs": inputs,
    "errors": errors,
    "triton errors": triton_errors,
    "alerts": alerts,
}


def updated(text: str) -> str:
    """The document with its tables as they should be."""
    return MARKED.sub(lambda marked: marked[1] + TABLES[marked[2]]() + marked[3], text)


def main() -> None:
    outdated = [path for path in DOCUMENTS if updated(path.read_text()) != path.read_text()]
    if sys.argv[1:] == ["--check"]:
        names = ", ".join(path.name for path in outdated)
        sys.exit(f"{names}: run python -m docs.tables" if outdated else 0)
    for path in outdated:
        path.write_text(updated(path.read_text()))


def _fields(fields: dict[str, Field]) -> str:
    rows = [
        (f"`{name}`", field.row.doc, field.row.range, field.shown_default)
        for name, field in fields.items()
    ]
    return _table("field | meaning | values | default", rows)


def _data_type(field: Field) -> str:
    """As Triton's clients call it."""
    return field.row.tensor[0].replace("STRING", "BYTES")


def _upper(doc: str) -> str:
    """The sentence with names of inputs instead of fields."""
    return re.sub(r"`(\w+)`", lambda name: _input(name[1]) if name[1] in FIELDS else name[0], doc)


def _input(name: str) -> str:
    return f"`{FIELDS[name].input}`"


def _table(head: str, rows: Iterable[Sequence[str]]) -> str:
    lines = [head, " | ".join("---" for _ in head.split("|")), *map(" | ".join, rows)]
    return "".join(f"| {line} |\n" for line in lines)


if __name__ == "__main__":
    main()
