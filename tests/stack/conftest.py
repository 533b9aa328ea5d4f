"""Songs of Triton that several tests compare with, generated once."""

from typing import Any

import pytest

from tests.conftest import Stack
from tests.stack.client import SONG, chunks, stream


@pytest.fixture(scope="session")
def whole_song(stack: Stack) -> Any:
    """The response to SONG without a stream."""
    [answer] = stream(stack, "musicgen-tiny", SONG)
    return answer


@pytest.fixture(scope="session")
def streamed_song(stack: Stack) -> list[Any]:
    """All responses to SONG in a stream."""
    return stream(stack, "musicgen-tiny", {**SONG, "STREAM": True})


@pytest.fixture(scope="session")
def song_chunks(streamed_song: list[Any]) -> list[Any]:
    """The responses of the stream that hold audio."""
    return chunks(streamed_song)
