"""Refusals in the words of the page, in both languages."""

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page, expect

from protocol.errors import InvalidField, ServiceError
from tests.browser.page import ask, tune, whole
from tests.conftest import until
from tests.gateway.fake_triton import FakeTriton

REFUSALS = [
    (
        {"prompt": " "},
        "“What should it sound like?”: write something.",
        "« Quelle musique imaginez-vous ? » : écrivez quelque chose.",
    ),
    (
        {"prompt": 2001 * "a"},
        "“What should it sound like?”: write at most 2000 characters.",
        "« Quelle musique imaginez-vous ? » : écrivez au plus 2000 caractères.",
    ),
    (
        {"duration": "1000"},
        "“Duration in seconds”: give 1 to 300.",
        "« Durée en secondes » : entrez une valeur de 1 à 300.",
    ),
    (
        {"duration": "-5"},
        "“Duration in seconds”: give 1 to 300.",
        "« Durée en secondes » : entrez une valeur de 1 à 300.",
    ),
    (
        {"duration": ""},
        "“Duration in seconds”: write something.",
        "« Durée en secondes » : écrivez quelque chose.",
    ),
    ({"bpm": "-110"}, "“Tempo”: give 20 to 400.", "« Tempo » : entrez une valeur de 20 à 400."),
    (
        {"top_k": "1.5"},
        "“Top-k”: give a whole number from 0 to 1000000.",
        "« Top-k » : entrez un nombre entier de 0 à 1000000.",
    ),
    (
        {"cfg_coef": "200"},
        "“Guidance”: give 0 to 100.",
        "« Guidage » : entrez une valeur de 0 à 100.",
    ),
]


@pytest.fixture
def french_page(browser: Browser, quiet_page: Page) -> Iterator[Page]:
    with browser.new_context(locale="fr-FR") as context:
        page = context.new_page()
        page.goto(quiet_page.url)
        expect(page.locator("#model")).to_have_value("musicgen-tiny")
        yield page


def test_a_refusal_names_the_field_as_the_page_does(quiet_page: Page, french_page: Page) -> None:
    for page in (quiet_page, french_page):
        page.click("#more summary")
        for wrong, english, french in REFUSALS:
            [(field, value)] = wrong.items()
            before = page.locator(f"#{field}").input_value()
            values = {"prompt": "calm piano", "duration": "1", **wrong}
            page.fill(f"#{field}", value)
            ask(page, values["prompt"], values["duration"])
            text = english if page is quiet_page else french
            expect(page.locator(f"#{field} + #refusal")).to_have_text(text)
            page.fill(f"#{field}", before)


def test_a_beginning_longer_than_the_song_is_refused(french_page: Page) -> None:
    french_page.locator("#file").set_input_files(tune(3))
    expect(french_page.locator("#trim")).to_be_visible()
    ask(french_page, "piano calme", "2")
    expect(french_page.locator("#duration + #refusal")).to_have_text(
        "« Durée en secondes » : entrez plus de 3."
    )


def test_text_in_a_number_field_is_refused_and_not_sent(
    quiet_page: Page, french_page: Page, triton: FakeTriton
) -> None:
    """Its value is empty for the page's code, as if nothing stood there."""
    for page, text in (
        (quiet_page, "“Guidance”: this is no number; write one."),
        (french_page, "« Guidage » : ce n’est pas un nombre ; entrez-en un."),
    ):
        page.click("#more summary")
        page.locator("#cfg_coef").press_sequentially("1e")
        ask(page, "calm piano", "1")
        expect(page.locator("#cfg_coef + #refusal")).to_have_text(text)
        expect(page.locator("#cfg_coef")).to_be_focused()
        assert not triton.requests
    page.keyboard.type("0")
    expect(page.locator("#refusal")).to_be_empty()
    ask(page, "calm piano", "1")
    whole(page)
    assert [request.cfg_coef for request in triton.requests] == [1]


def test_a_loop_of_too_many_bars_is_refused_in_seconds(french_page: Page) -> None:
    french_page.get_by_label("Fin", exact=True).select_option("loop")
    french_page.get_by_label("Tempo").fill("110")
    ask(french_page, "guitare gaie", "300")
    expect(french_page.locator("#refusal")).to_have_text(
        "« Durée en secondes » : à ce tempo, entrez au plus 296."
    )
    ask(french_page, "guitare gaie", "296")
    whole(french_page)


def test_a_silent_part_of_a_file_is_refused(quiet_page: Page, french_page: Page) -> None:
    file = tune(2, pause=2)
    for page, text in (
        (quiet_page, "“Audio to use”: the service hears nothing in it; choose another one."),
        (french_page, "« Son à utiliser » : le service n’y entend rien ; choisissez-en un autre."),
    ):
        page.locator("#file").set_input_files(file)
        page.locator("#begin").fill("2.5")
        ask(page, "calm piano", "5")
        expect(page.locator("#refusal")).to_have_text(text)


def test_a_loop_has_no_beginning_from_a_file(quiet_page: Page, french_page: Page) -> None:
    for page, text in (
        (quiet_page, "“Audio to use”: not together with this “Ending”; change one of them."),
        (
            french_page,
            "« Son à utiliser » : ne va pas avec ce choix de « Fin » ; changez l’un des deux.",
        ),
    ):
        page.locator("#file").set_input_files(tune(2))
        page.locator("#ending").select_option("loop")
        ask(page, "calm piano", "5")
        expect(page.locator("#refusal")).to_have_text(text)


def test_sections_of_other_words_may_not_suit_a_model(
    quiet_page: Page, french_page: Page, triton: FakeTriton
) -> None:
    for page, text in (
        (quiet_page, "“Sections”: this model takes the same words in all of them."),
        (french_page, "« Parties » : ce modèle prend les mêmes mots pour toutes."),
    ):
        triton.refusals = [InvalidField.of_field("sections", "differ; send one", maxPrompts=1)]
        ask(page, "calm piano", "1")
        expect(page.locator("#refusal")).to_have_text(text)


def test_a_section_is_refused_in_the_language_of_the_page(
    quiet_page: Page, triton: FakeTriton
) -> None:
    quiet_page.get_by_role("button", name="Français").click()
    ask(quiet_page, "calm piano", "1")
    whole(quiet_page)
    quiet_page.get_by_role("button", name="Ajouter une partie").click()
    for field, value, text in (
        ("words", "", "« Partie 2 » : écrivez quelque chose."),
        ("words", " ", "« Partie 2 » : écrivez autre chose."),
        ("words", "drums", ""),
        ("seconds", "1e", "« Secondes » : ce n’est pas un nombre ; entrez-en un."),
        ("seconds", "1000", "« Secondes » : entrez une valeur de 1 à 299."),
    ):
        quiet_page.locator(f"#{field}").fill("")
        quiet_page.locator(f"#{field}").press_sequentially(value)
        if text:
            quiet_page.locator(f"#{field}").press("Enter")
            told = quiet_page.locator(f"#{field}").evaluate("field => field.validationMessage")
            assert told.replace("\u00a0", " ") == text
    quiet_page.locator("#seconds").fill("2")
    quiet_page.locator("#seconds").press("Enter")
    until(lambda: len(triton.requests) == 2)


def test_a_refusal_without_limits_is_french_too(french_page: Page, triton: FakeTriton) -> None:
    triton.refusals = [InvalidField.of_field("sections[1].top_p", "is odd; give an even one")]
    ask(french_page, "piano calme", "1")
    expect(french_page.locator("#refusal")).to_have_text(
        "« Top-p » : cette valeur ne convient pas ; changez-la."
    )


TELL = """async (code) => {
  const { errorText } = await import("/refusals.js");
  return errorText({ code, message: "In English.", field: null, limits: {} });
}"""


def test_every_error_has_a_sentence_in_each_language(quiet_page: Page, french_page: Page) -> None:
    codes = [kind.code for kind in ServiceError.codes.values() if kind.status is not None]
    texts = {french_page.evaluate(TELL, code) for code in codes}
    assert len(texts) == len(codes) and "In English." not in texts
    assert {quiet_page.evaluate(TELL, code) for code in codes} == {"In English."}
