"""What the page's files have to be, whichever browser shows them."""

import re

from tests.conftest import ROOT

WEB = ROOT / "web"
BYTES = 60_000  # in all, before compression


def spoken() -> set[str]:
    """The English texts that the page shows."""
    page = (WEB / "index.html").read_text()
    marked = re.findall(r"<[^>]*\sdata-t\b[^>]*>([^<]+)<|aria-label=\"([^\"]+)\"", page)
    code = "".join(file.read_text() for file in WEB.glob("*.js"))
    told = re.findall(r"\bt\(\s*\"([^\"]+)\"|message: \"([^\"]+)\"", code)
    states = re.search(r"STATES = \{(.*?)\};", code, re.DOTALL)
    assert states
    shown = re.findall(r": \"([^\"]+)\"", states[1])
    return {one or other for one, other in marked + told} | set(shown)


def test_every_text_has_a_french_one() -> None:
    dictionary = (WEB / "i18n.js").read_text().partition("FRENCH = {")[2].partition("};")[0]
    named = re.findall(r"(?:\"([^\"]+)\"|\b(\w+)):\s", dictionary)
    french = {quoted or bare for quoted, bare in named}
    assert len(spoken()) > 40
    assert spoken() - french == set()


def test_the_page_is_small_and_needs_no_foreign_host() -> None:
    files = list(WEB.iterdir())
    assert sum(file.stat().st_size for file in files) < BYTES
    told = "".join(file.read_text() for file in files)
    assert set(re.findall(r"https?://[^\s\"'`]+", told)) == {"http://www.w3.org/2000/svg"}
