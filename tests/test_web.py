"""What the page's files have to be, whichever browser shows them."""

import hashlib
import re

from tests.conftest import ROOT

WEB = ROOT / "web"
BYTES, LINES = 60_000, 1_000  # in all, before compression; of code, without blank and comment lines
COMMENT = re.compile(r"\s*(//.*|/?\*.*)?")
VENDORED = {  # as npm has it
    "idb-keyval.js": "480f1d31a40b5720fbaaee44c1a21d83392c6cf9516672007813a1824483a058",
}


def spoken() -> set[str]:
    """The English texts that the page shows."""
    page = (WEB / "index.html").read_text()
    marked = re.findall(r"<[^>]*\sdata-t\b[^>]*>([^<]+)<|aria-label=\"([^\"]+)\"", page)
    code = "".join(file.read_text() for file in WEB.glob("*.js"))
    told = re.findall(r"\bt\(\s*\"([^\"]+)\"|message: \"([^\"]+)\"", code)
    told += re.findall(r"\? \"([A-Z][^\"]+)\" : (?:\"([A-Z][^\"]+)\")?", code)
    states = re.search(r"STATES = \{(.*?)\};", code, re.DOTALL)
    assert states
    shown = re.findall(r": \"([^\"]+)\"", states[1])
    return {text for pair in marked + told for text in pair if text} | set(shown)


def test_every_text_has_a_french_one() -> None:
    dictionary = (WEB / "i18n.js").read_text().partition("FRENCH = {")[2].partition("};")[0]
    named = re.findall(r"(?:\"([^\"]+)\"|\b(\w+)):\s", dictionary)
    french = {quoted or bare for quoted, bare in named}
    assert len(spoken()) > 40
    assert spoken() - french == set()


def test_the_page_is_small_and_needs_no_foreign_host() -> None:
    files = [path.read_text() for path in WEB.iterdir() if path.is_file()]
    assert sum(len(file.encode()) for file in files) < BYTES
    lines = "\n".join(files).splitlines()
    assert sum(COMMENT.fullmatch(line) is None for line in lines) <= LINES
    assert set(re.findall(r"https?://[^\s\"'`]+", "".join(files))) == {"http://www.w3.org/2000/svg"}


def test_what_is_vendored_is_unchanged() -> None:
    for name, digest in VENDORED.items():
        assert hashlib.sha256((WEB / "vendor" / name).read_bytes()).hexdigest() == digest
