"""The page's files, whichever browser shows them."""

import hashlib
import re
import unicodedata
from html.parser import HTMLParser
from random import Random

from gateway.request import json_fields
from protocol.fields import Number
from tests.conftest import ROOT
from training.caption import FILLERS, INSTRUMENTS, NOUNS, QUALITIES, write_caption
from training.music import invent

WEB = ROOT / "web"
MAX_BYTES = 160_000  # of our own files, before compression, without sounds
MODEL_STATES = {"unloaded", "loading", "ready", "unavailable"}  # GET /models sends these
HEADER_OR_KEY = re.compile(r"POST|PATCH|MIT|NFD|Enter|Escape|Arrow|[A-Z][a-z]*(-[A-Z][A-Za-z]*)+")
VENDORED = {  # SHA-256 of the file in the npm package
    "client-zip.js": "28c957c53d8e5290951d4b45ccff8ab8c9c37219da08b9d537bbdd595a75706d",
    "idb-keyval.js": "480f1d31a40b5720fbaaee44c1a21d83392c6cf9516672007813a1824483a058",
}


class MarkedTexts(HTMLParser):
    """Collects the texts of elements with `data-t`, and all labels."""

    def __init__(self) -> None:
        super().__init__()
        self.texts: set[str] = set()
        self._is_marked = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        attributes = dict(attrs)
        self._is_marked = "data-t" in attributes
        if label := attributes.get("aria-label"):
            self.texts.add(label)

    def handle_data(self, data: str) -> None:
        if self._is_marked:
            self.texts.add(data)
        self._is_marked = False


def texts_in_html() -> set[str]:
    parser = MarkedTexts()
    parser.feed((WEB / "index.html").read_text())
    return parser.texts


def texts_in_code() -> set[str]:
    """String literals that begin with a capital letter, a quotation mark or a placeholder, or are
    passed to t()."""
    code = "".join(path.read_text() for path in WEB.glob("*.js") if path.name != "french.js")
    literals = set(re.findall(r'"([A-Z{“][^"\n]*)"', code))
    translated = set(re.findall(r'\bt\(\s*"([^"]+)"', code))
    return {text for text in literals if not HEADER_OR_KEY.fullmatch(text)} | translated


def translated_texts() -> set[str]:
    dictionary = (WEB / "french.js").read_text().partition("FRENCH = {")[2].partition("\n};")[0]
    return {
        quoted or bare
        for quoted, bare in re.findall(r'^  (?:"([^"]+)"|(\w+)):', dictionary, re.MULTILINE)
    }


def test_exactly_the_texts_of_the_page_have_a_translation() -> None:
    texts = texts_in_html() | texts_in_code() | MODEL_STATES
    assert len(texts) > 60
    assert texts == translated_texts()


def test_the_page_is_small_and_loads_from_no_other_host() -> None:
    files = [path.read_text() for path in WEB.glob("*.*")]
    assert sum(len(file.encode()) for file in files) < MAX_BYTES
    assert set(re.findall(r"https?://[^\s\"'`]+", "".join(files))) == {
        "http://www.w3.org/2000/svg",
        "http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia",
    }  # names, which the page never loads


def test_vendored_files_are_unchanged() -> None:
    for name, digest in VENDORED.items():
        assert hashlib.sha256((WEB / "vendor" / name).read_bytes()).hexdigest() == digest


def test_the_fields_have_the_ranges_of_the_service() -> None:
    page = (WEB / "index.html").read_text()
    for name in ("temperature", "top_k", "top_p", "cfg_coef", "bpm"):
        row = json_fields(300)[name].row
        assert isinstance(row, Number)
        assert f'id="{name}" min="{row.low:g}" max="{row.high:.0f}"' in page


def words_of(*texts: str) -> set[str]:
    """Without accents."""
    letters = unicodedata.normalize("NFD", " ".join(texts).lower())
    return set(re.findall(r"[a-z]+", re.sub(r"[\u0300-\u036f]", "", letters)))


def test_the_page_has_the_vocabulary_of_musicgen_tiny() -> None:
    written = (WEB / "vocabulary.js").read_text().split("`")[1].split()
    linking = {"with", "and", "over", "avec", "et", "sur", "bpm"}
    lists = (*INSTRUMENTS.values(), *QUALITIES.values(), NOUNS, FILLERS)
    known = linking | words_of(*(text for words in lists for text in sum(words, ())))
    assert written == sorted(known)
    rng = Random(0)
    assert linking < words_of(*(write_caption(invent(rng), rng) for _ in range(300))) <= known
