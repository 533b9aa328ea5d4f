import pytest

from gateway.errors import UnknownModel
from gateway.names import resolve

KNOWN = ["musicgen-small", "musicgen-stereo-small", "my-stereo", "musicgen-tiny"]


@pytest.mark.parametrize(
    ("spelling", "name"),
    [
        ("musicgen-small", "musicgen-small"),
        ("facebook/musicgen-small", "musicgen-small"),
        ("facebook/musicgen-stereo-small", "musicgen-stereo-small"),
        ("facebook/musicgen-small-stereo", "musicgen-stereo-small"),
        ("musicgen-small-stereo", "musicgen-stereo-small"),
        ("my-stereo", "my-stereo"),
    ],
)
def test_every_spelling_in_use_finds_its_model(spelling: str, name: str) -> None:
    assert resolve(spelling, KNOWN) == name


@pytest.mark.parametrize(
    "spelling",
    ["", "facebook/", "small", "MUSICGEN-SMALL", "google/musicgen-small", "my", "\ud800"],
)
def test_anything_else_is_unknown_and_told_what_is_known(spelling: str) -> None:
    with pytest.raises(UnknownModel, match=", ".join(sorted(KNOWN))) as raised:
        resolve(spelling, KNOWN)
    assert raised.value.field == "model"
