"""The name and the tags of a file."""

import json
from urllib.parse import unquote

import pytest

from gateway.audio.receipt import content_disposition, tags
from protocol.request import GenerationRequest
from protocol.variant import Variant


@pytest.mark.parametrize(
    ("prompt", "ascii_name", "full_name"),
    [
        ("Lo-fi beat, 90 BPM!", "tiny-lo-fi-beat-90-bpm.wav", "tiny-lo-fi-beat-90-bpm.wav"),
        ("Été", "tiny-ete.wav", "tiny-été.wav"),
        ("ピアノ", "tiny.wav", "tiny-ピアノ.wav"),
        ('"; \r\n\0/../🎹', "tiny.wav", "tiny.wav"),
        ("x" * 2000, f"tiny-{'x' * 60}.wav", f"tiny-{'x' * 60}.wav"),
    ],
)
def test_a_file_is_named_after_model_and_prompt(
    prompt: str, ascii_name: str, full_name: str
) -> None:
    header = content_disposition("tiny", prompt, "wav")
    assert header.isascii()
    assert header.isprintable()
    plain, full = header.removeprefix("attachment; ").split("; ")
    assert plain == f'filename="{ascii_name}"'
    assert unquote(full) == f"filename*=UTF-8''{full_name}"


SMALL = Variant("musicgen-small", "facebook/musicgen-small", "CC-BY-NC-4.0", "cached")


def test_the_tags_name_the_checkpoint_and_shorten_the_prompt() -> None:
    found = tags(SMALL, GenerationRequest("x" * 2000, 50, seed=7), "0123456789ab", {})
    assert found["artist"] == "facebook/musicgen-small"
    assert found["copyright"] == "weights: CC-BY-NC-4.0"
    assert found["title"] == "x" * 79 + "…"


@pytest.mark.parametrize("output", ["whole", "new"])
def test_the_comment_of_a_continued_song_has_its_output(output: str) -> None:
    found = tags(SMALL, GenerationRequest("jazz", 50, seed=7), "0123456789ab", {"output": output})
    assert json.loads(found["comment"])["output"] == output
