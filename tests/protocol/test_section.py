"""A song in sections: each has a length and a sound of its own."""

import json
from dataclasses import replace
from math import nan
from typing import Any

import numpy as np
import pytest

from protocol.errors import InvalidField
from protocol.parser import parse_request
from protocol.prompt import WeightedText, blend
from protocol.request import GenerationRequest
from protocol.section import Section, check_change
from protocol.tensors import from_tensors, to_tensors

VERSE = {"prompt": "calm piano", "duration": 4}
CHORUS = {"prompt": "loud drums", "duration": 2.5, "cfg_coef": 5, "negative_prompt": "piano"}


def parse(*sections: Any, **values: Any) -> GenerationRequest:
    return parse_request({"sections": [*sections], **values}, max_duration=30)


def test_a_song_is_as_long_as_its_sections() -> None:
    request = parse(VERSE, CHORUS)
    assert [section.frames for section in request.timeline] == [200, 125]
    assert request.frames == 325


def test_a_section_has_the_settings_of_the_song_or_its_own() -> None:
    verse, chorus = parse(VERSE, CHORUS, temperature=0.5, cfg_coef=2).timeline
    assert (verse.temperature, verse.cfg_coef, verse.negative_prompt) == (0.5, 2.0, "")
    assert (chorus.temperature, chorus.cfg_coef, chorus.negative_prompt) == (0.5, 5.0, "piano")


def test_a_setting_that_is_null_is_not_given() -> None:
    assert parse({**VERSE, "top_k": None}, top_k=7).timeline[0].top_k == 7


def test_a_song_without_sections_is_one_section() -> None:
    song = GenerationRequest("jazz", frames=50, top_k=7)
    assert song.timeline == (Section("jazz", frames=50, top_k=7),)
    assert song.under(Section("rock", frames=9, top_p=0.5)) == replace(song, top_k=250, top_p=0.5)


BLEND = [{"text": "piano", "weight": 3.0}, {"text": "choir", "weight": 1.0}]


def test_a_blend_counts_by_shares_that_add_up_to_one() -> None:
    (section,) = parse({**VERSE, "prompt": BLEND}).timeline
    assert [(one.text, one.weight) for one in blend(section.prompt)] == [
        ("piano", 0.75),
        ("choir", 0.25),
    ]
    assert blend("piano") == (WeightedText("piano", 1.0),)


def test_a_song_of_a_blend_is_a_section_of_it() -> None:
    song = parse_request({"prompt": BLEND, "duration": 4, "top_k": 9, "seed": 1}, 30)
    assert song == parse({"prompt": BLEND, "duration": 4}, top_k=9, seed=1)
    assert song.prompt == "piano + choir"


@pytest.mark.parametrize(
    ("prompt", "field", "problem"),
    [
        ([], "", "has 0 texts; send 1 to 4"),
        ([{"text": "x"}] * 5, "", "has 5 texts; send 1 to 4"),
        (["piano"], "[0]", "is no object of text and weight alone"),
        ([{"text": "x", "share": 1}], "[0]", "is no object of text and weight alone"),
        ([{"weight": 1}], "[0].text", "is null; send text"),
        ([{"text": 5}], "[0].text", "is a number; send text"),
        ([{"text": "x" * 2001}], "[0].text", "has 2001 characters"),
        (
            [{"text": "x"}, {"text": "y", "weight": 0}],
            "[1].weight",
            "is 0; give more than 0, at most 1,000",
        ),
        ([{"text": "x", "weight": -1}], "[0].weight", "is -1; give more than 0"),
        ([{"text": "x", "weight": nan}], "[0].weight", "is nan; give more than 0"),
        ([{"text": "x", "weight": "1"}], "[0].weight", "is text; send a number"),
    ],
)
def test_a_wrong_blend_is_named(prompt: Any, field: str, problem: str) -> None:
    bodies = {"": {"prompt": prompt, "duration": 1}}
    bodies["sections[0]."] = {"sections": [{"prompt": prompt, "duration": 1}]}
    for within, body in bodies.items():
        with pytest.raises(InvalidField) as caught:
            parse_request(body, 30)
        assert caught.value.field == f"{within}prompt{field}"
        assert caught.value.message.startswith(f"{within}prompt{field} {problem}")


def test_a_change_counts_from_its_frame_to_the_sections_end() -> None:
    song = parse(VERSE, CHORUS).changed(150, {"prompt": "organ"})
    assert [(one.prompt, one.frames) for one in song.timeline] == [
        ("calm piano", 150),
        ("organ", 50),
        ("loud drums", 125),
    ]
    assert song.frames == 325 and song.prompt == "calm piano; organ; loud drums"


def test_a_change_of_a_length_covers_the_sections_that_follow() -> None:
    song = parse(VERSE, CHORUS).changed(150, {"cfg_coef": 1.0}, frames=100)
    assert [(one.prompt, one.frames, one.cfg_coef) for one in song.timeline] == [
        ("calm piano", 150, 3.0),
        ("calm piano", 50, 1.0),
        ("loud drums", 50, 1.0),
        ("loud drums", 75, 5.0),
    ]


def test_a_change_at_the_beginning_of_a_section_replaces_it() -> None:
    song = parse(VERSE, CHORUS).changed(200, {"prompt": "organ"}).changed(0, {"prompt": "flute"})
    assert [one.prompt for one in song.timeline] == ["flute", "organ"]


@pytest.mark.parametrize("values", [{}, {"temperature": 0.3, "negative_prompt": "noise"}])
def test_sections_survive_as_values_and_as_tensors(values: dict[str, Any]) -> None:
    request = parse(VERSE, CHORUS, {**VERSE, "prompt": BLEND}, seed=3, **values)
    assert parse_request(request.values(), 30) == request
    assert parse_request(from_tensors(to_tensors(request)), 30) == request
    assert not request.values().keys() & {"prompt", "duration"}


@pytest.mark.parametrize(
    ("sections", "field", "problem"),
    [
        ("jazz", "sections", "is text; send a list of sections"),
        ([], "sections", "has 0 sections; send 1 to 32"),
        ([VERSE] * 33, "sections", "has 33 sections; send 1 to 32"),
        ([{**VERSE, "duration": 20}] * 2, "sections", "last 40 s together; give at most 30"),
        (["jazz"], "sections[0]", "is text; send an object"),
        ([VERSE, {"prompt": "jazz"}], "sections[1].duration", "is missing"),
        ([{"duration": 1}], "sections[0].prompt", "is missing"),
        ([{**VERSE, "seed": 1}], "sections[0]", "has the field 'seed'; send prompt, duration"),
        ([{**VERSE, "duration": 0.019}], "sections[0].duration", "is 0.019; give seconds, at le"),
        ([{**VERSE, "top_k": 0.5}], "sections[0].top_k", "is 0.5; give a whole number"),
        ([{**VERSE, "prompt": "x" * 2001}], "sections[0].prompt", "has 2001 characters"),
    ],
)
def test_a_wrong_section_is_named(sections: Any, field: str, problem: str) -> None:
    with pytest.raises(InvalidField) as caught:
        parse_request({"sections": sections}, 30)
    assert caught.value.field == field
    assert caught.value.message.startswith(f"{field} {problem}")


def test_a_model_that_takes_a_melody_has_the_same_texts_throughout() -> None:
    model: dict[str, Any] = {"codebooks": 4, "vocab_size": 2048, "window": 1500, "revision": "abc"}
    parse(VERSE, CHORUS).check_model(**model, columns=0)
    parse(VERSE, {**VERSE, "cfg_coef": 1}).check_model(**model, columns=235)
    with pytest.raises(InvalidField) as caught:
        parse(VERSE, CHORUS).check_model(**model, columns=235)
    assert caught.value.limits == {"maxPrompts": 1}


@pytest.mark.parametrize("name", ["prompt", "duration"])
def test_sections_exclude_what_they_replace(name: str) -> None:
    with pytest.raises(InvalidField) as caught:
        parse(VERSE, **{name: VERSE[name]})
    assert caught.value.message == f"{name} comes with sections; send one of them."


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"{", "TIMELINE is not JSON in UTF-8; send JSON."),
        (b"\xff", "TIMELINE is not JSON in UTF-8; send JSON."),
        (b"[" * 10**5, "TIMELINE is not JSON in UTF-8; send JSON."),
        (json.dumps([{"prompt": "x"}]).encode(), "TIMELINE[0].duration is missing; give the "),
    ],
)
def test_triton_clients_send_a_timeline(text: bytes, message: str) -> None:
    with pytest.raises(InvalidField) as caught:
        parse_request(from_tensors({"TIMELINE": np.array([text], object)}), 30)
    assert str(caught.value).startswith(f"[invalid_input] {message}")


@pytest.mark.parametrize(
    ("change", "field"), [({"duration": 0}, "duration"), ({"duration": 5}, None), ({}, None)]
)
def test_a_change_names_its_wrong_field_first(change: dict[str, Any], field: str | None) -> None:
    with pytest.raises(InvalidField) as refusal:
        check_change(change)
    assert refusal.value.field == field
    assert (field is None) == ("nothing new; send some of prompt, negative" in str(refusal.value))
