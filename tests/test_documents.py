"""The documents are complete: what the code knows, a reader finds."""

import re
from pathlib import Path

import pytest
from aiohttp.web import RouteDef

from docs.tables import DOCUMENTS as GENERATED
from docs.tables import TABLES, updated
from gateway.routes import routes
from musicgen_engine.repository import Repository
from protocol.errors import ServiceError

ROOT = Path(__file__).parent.parent
DOCUMENTS = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").glob("*.md"))]


def text(path: str) -> str:
    return (ROOT / path).read_text()


def test_every_setting_is_documented() -> None:
    sources = [path.read_text() for name in ("gateway", "musicgen_engine", "protocol", "supervisor")
               for path in (ROOT / name).glob("settings.py")]  # fmt: skip
    read = set(re.findall(r'"([A-Z][A-Z_]+)"', "".join(sources)))
    assert {"HOST", "PORT", "MAX_DURATION", "MAX_QUEUE", "MODEL_REPOSITORY"} <= read
    assert {name for name in read if f"`{name}`" not in text("docs/configuration.md")} == set()


@pytest.mark.parametrize("document", GENERATED, ids=lambda path: path.name)
def test_the_generated_tables_are_up_to_date(document: Path) -> None:
    assert document.read_text() == updated(document.read_text()), "run python -m docs.tables"


def test_every_generated_table_is_in_a_document() -> None:
    documents = "".join(document.read_text() for document in GENERATED)
    assert set(re.findall("<!-- table: ([^>]+) -->", documents)) == TABLES.keys()


def test_the_page_translates_every_error() -> None:
    codes = {kind.code for kind in ServiceError.codes.values() if kind.status is not None}
    french = text("web/refusals.js").partition("FRENCH = {")[2].partition("};")[0]
    assert set(re.findall(r"^  (\w+):", french, re.MULTILINE)) == codes


def test_the_readme_has_the_downloads_of_the_models() -> None:
    rows = re.findall(r"^\| ([a-z, -]+) \| (\d) GB \|", text("README.md"), re.MULTILINE)
    listed = {name: int(size) for names, size in rows for name in names.split(", ")}
    for variant in Repository(ROOT / "model_repository").variants():
        name = variant.name.removeprefix("musicgen-").removeprefix("stereo-")
        assert variant.download == (listed[name] * 1e9 if name in listed else None)


def test_every_route_is_documented() -> None:
    for route in routes:
        assert isinstance(route, RouteDef)
        assert f"`{route.method} {route.path}`" in text("docs/http.md")


def test_the_readme_names_every_folder() -> None:
    tree = text("README.md").partition("## How it works")[2]
    listed = set(re.findall(r"^(\w+)/ +\S", tree, re.MULTILINE))
    packages = {path.parent.name for path in ROOT.glob("*/__init__.py")}
    assert listed == packages | {"web", "model_repository", "examples", "deploy"}
    for folder in re.findall(r"^  (\w+/) +\S", tree, re.MULTILINE):
        assert (ROOT / "musicgen_engine" / folder).is_dir()


def test_troubleshooting_quotes_messages_of_the_code() -> None:
    packages = ("gateway", "musicgen_engine", "protocol", "supervisor")
    code = "".join(path.read_text() for name in packages for path in (ROOT / name).rglob("*.py"))
    symptoms = re.findall(r"^\| (.+?) \|", text("docs/troubleshooting.md"), re.MULTILINE)
    quoted = [quote for symptom in symptoms for quote in re.findall("`([^`]+)`", symptom)]
    messages = [quote for quote in quoted if "…" in quote or "_" in quote]
    assert len(messages) > 5
    assert [part for quote in messages for part in quote.split("…") if part not in code] == []


def anchors(document: Path) -> set[str]:
    """The names that GitHub gives to the headings."""
    headings = re.findall(r"^#+ (.+)$", document.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_every_link_leads_to_a_file_and_a_heading(document: Path) -> None:
    for link in re.findall(r"\]\((?!http)([^)]+)\)", document.read_text()):
        file, _, anchor = link.partition("#")
        target = document.parent / file if file else document
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


def test_the_readme_has_the_sizes_of_the_models() -> None:
    configs = (ROOT / "model_repository").glob("*/config.pbtxt")
    key = 'key: "size" value { string_value: "([^"]+)" }'
    sizes = {size for config in configs for size in re.findall(key, config.read_text())}
    table = text("README.md").partition("## Models")[2].partition("\n\n")[2].partition("\n\n")[0]
    assert set(re.findall(r"\b[\d.]+ ?[MBG]\b", table)) == sizes


def test_users_always_see_the_licence_of_the_weights() -> None:
    for path in (
        "README.md",
        "README.fr.md",
        "LICENSE",
        "docs/configuration.md",
        "docs/kubernetes.md",
    ):
        assert "CC-BY-NC 4.0" in text(path), path
    for config in (ROOT / "model_repository").glob("musicgen-*/config.pbtxt"):
        assert "license" in config.read_text()
