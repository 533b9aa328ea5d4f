"""The page's files, whichever browser shows them."""

import hashlib
import re
from html.parser import HTMLParser
from random import Random

from gateway.request import json_fields
from protocol.fields import Number
from tests.conftest import ROOT
from training import vocabulary
from training.caption import without_accents, write_caption
from training.music import invent
from training.vocabulary import FILLERS, INSTRUMENTS, QUALITIES, Words

WEB = ROOT / "web"
MAX_BYTES = 156_500  # of our own files, before compression, without sounds
NO_TEXT = re.compile(
    r"POST|PATCH|MIT|NFD|LIST.*|Enter|Escape|Arrow|Digit|QuotaExceededError|Bearer .*|(Word|Mot) .*"
    r"|[A-Z][a-z]*(-[A-Z][A-Za-z]*)+"
)
UNTRANSLATED = {"title", "noscript", "h1", "img", "label", "kbd"}
NAMES = {
    "WAV",
    "FLAC",
    "Opus",
    "MP3",
    "Top-k",
    "Top-p",
    "Position",
    "Synthwave",
    "Transport",
    "Volume",
}
VENDORED = {  # SHA-256 of the file in the npm package
    "client-zip.js": "28c957c53d8e5290951d4b45ccff8ab8c9c37219da08b9d537bbdd595a75706d",
    "idb-keyval.js": "480f1d31a40b5720fbaaee44c1a21d83392c6cf9516672007813a1824483a058",
}


class Untranslated(HTMLParser):
    """Collects the elements whose label, or text without a label, has no French."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []
        self._translated = True

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        attributes = dict(attrs)
        label = attributes.get("aria-label")
        self._translated = "data-fr" in attributes or label is not None or tag in UNTRANSLATED
        if label and "data-fr" not in attributes:
            self.found.append(label)

    def handle_endtag(self, tag: str) -> None:
        self._translated = True

    def handle_data(self, data: str) -> None:
        if re.search(r"[A-Za-z]{2}", data) and not self._translated:
            self.found.append(data.strip())


def test_every_text_of_the_html_has_its_french() -> None:
    parser = Untranslated()
    parser.feed((WEB / "index.html").read_text())
    assert set(parser.found) <= NAMES


def test_every_text_of_the_code_has_its_french() -> None:
    """A text begins with a capital letter or a quotation mark."""
    code = "".join(path.read_text() for path in WEB.glob("*.js"))
    text = r"""(?:"[^"\n]*"|`[^`]*`)"""
    pairs = rf"\bt\(\s*{text},\s*{text},?\s*\)"
    problems = rf"\b(?:problem\(|message:)\s*{text},\s*(?:french: )?{text},?"
    code, count = re.subn(f"{pairs}|{problems}", "", code)
    assert count > 60
    code = re.sub(r"const FRENCH = \{.*?\n\};", "", code, flags=re.DOTALL)  # of refusals.js
    left = re.findall(r"""["`]([A-Z“][^"`\n]*)["`]""", code)
    assert {literal for literal in left if not NO_TEXT.fullmatch(literal)} == set()


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
    return set(re.findall(r"[^\W\d_]+", without_accents(" ".join(texts).lower())))


def test_the_page_has_the_words_that_mean_something_to_musicgen_tiny() -> None:
    written = (WEB / "vocabulary.js").read_text().split("`")[1].split()
    lists = [*INSTRUMENTS.values(), *QUALITIES.values()]
    lists += [words for words in vars(vocabulary).values() if isinstance(words, Words)]
    phrases = [text for words in lists if words is not FILLERS for text in sum(words, ())]
    known = words_of("bpm", *phrases)
    assert written == sorted(known)
    rng = Random(0)
    captions = [write_caption(invent(rng), rng) for _ in range(300)]
    assert words_of(*captions) <= known | words_of(*sum(FILLERS, ()))
