"""The GPU's bench runs on a CPU, with a recording in place of a graph."""

from collections.abc import Iterator
from typing import Any

import pytest
import torch

from bench.gpu import Case, measure
from musicgen_engine.model.graph import Capture
from musicgen_engine.model.one_thread import one_thread
from tests.musicgen_engine.model.recorder import Recording


@pytest.fixture(autouse=True)
def alone() -> Iterator[None]:
    """Threads would wait for one another longer than they work."""
    with one_thread():
        yield


def case(capture: Capture | None) -> Case:
    few: dict[str, Any] = {"songs": (1, 2), "bursts": 1, "window": 120}
    return Case(torch.device("cpu"), torch.float32, capture=capture, **few)


def test_all_checks_pass_and_each_number_of_songs_is_timed(
    capsys: pytest.CaptureFixture[str],
) -> None:
    result = measure(["tiny"], case(Recording), filters=4, gigabytes=0.01)
    assert [row["result"] for row in result["checks"]] == ["right"] * 3
    assert [row["songs"] for row in result["steps"]["tiny"]] == [1, 2]
    assert all(row["steps"] > 0 for row in result["steps"]["tiny"])
    assert result["steps"]["tiny"][0]["audiocraft"] > 0
    out = capsys.readouterr().out
    assert out.index("Checks") < out.index("steps a second")


def test_a_graph_that_fails_is_a_check_that_does() -> None:
    result = measure(["tiny"], case(None), filters=4, gigabytes=0.01)
    (row,) = result["checks"]
    assert (row["result"], row["fault"]) == ("wrong", "graph computes on a GPU")
