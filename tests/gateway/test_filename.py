from urllib.parse import unquote

import pytest

from gateway.filename import content_disposition


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
def test_songs_are_named_after_model_and_prompt(
    prompt: str, ascii_name: str, full_name: str
) -> None:
    header = content_disposition("tiny", prompt, "wav")
    assert header.isascii()
    assert header.isprintable()
    plain, full = header.removeprefix("attachment; ").split("; ")
    assert plain == f'filename="{ascii_name}"'
    assert unquote(full) == f"filename*=UTF-8''{full_name}"
