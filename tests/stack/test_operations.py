"""What whoever runs the service sees of it: Triton's metrics, and the log."""

import json
import os
import signal
import time
import urllib.request
from typing import Any

import pytest

from tests.conftest import Stack, until
from tests.prometheus import samples
from tests.stack.client import front, stream
from tests.stack.test_generate import GOOD, post

BEAT = 1.5  # seconds, after which an engine has said how it is

NAMES = {
    "musicgen_queued_songs", "musicgen_slots_in_use", "musicgen_slots", "musicgen_memory_bytes",
    "musicgen_steps_total", "musicgen_step_seconds_total", "musicgen_prefill_columns_total",
    "musicgen_audio_seconds_total",
}  # fmt: skip


def metrics(stack: Stack) -> dict[str, float]:
    """musicgen-tiny's own, by their names."""
    with urllib.request.urlopen(f"http://127.0.0.1:{stack.triton_metrics}/metrics") as answer:
        page = answer.read().decode()
    return {
        sample.name: sample.value
        for sample in samples(page)
        if sample.name.startswith("musicgen_") and sample.labels["model"] == "musicgen-tiny"
    }


async def test_the_engine_is_seen_in_tritons_metrics(stack: Stack) -> None:
    until(lambda: metrics(stack)["musicgen_slots_in_use"] == 0)
    time.sleep(BEAT)  # what songs before this one left has been told
    before = metrics(stack)
    await post(stack, {**GOOD, "duration": 31})  # more than a window
    time.sleep(BEAT)
    after = metrics(stack)
    assert after.keys() == NAMES
    assert (after["musicgen_queued_songs"], after["musicgen_slots_in_use"]) == (0, 0)
    assert after["musicgen_slots"] > 1 and after["musicgen_memory_bytes"] > 100e6
    gained = {name: after[name] - before[name] for name in NAMES if name.endswith("_total")}
    assert gained["musicgen_audio_seconds_total"] == pytest.approx(31)
    assert gained["musicgen_steps_total"] >= 31 * 50
    assert gained["musicgen_prefill_columns_total"] > 100
    assert 0 < gained["musicgen_step_seconds_total"] < 60


async def test_a_dead_engine_has_no_slots_until_it_is_back(stack: Stack) -> None:
    slots = until(lambda: metrics(stack).get("musicgen_slots"))
    os.kill(int(until(lambda: stack.pid("musicgen_engine.core", "musicgen-tiny"))), signal.SIGKILL)
    until(lambda: metrics(stack)["musicgen_slots"] == 0)
    until(lambda: metrics(stack)["musicgen_slots"] == slots)


def lines(stack: Stack, request_id: str) -> list[dict[str, Any]]:
    """Of the log, about this request."""
    found = [json.loads(line) for line in stack.log.read_text().splitlines() if request_id in line]
    assert all(line["request_id"] == request_id for line in found)
    return found


async def test_the_log_has_a_request_in_gateway_and_engine(stack: Stack) -> None:
    await post(stack, GOOD, headers={"X-Request-Id": "mine-alone"})
    until(lambda: len(lines(stack, "mine-alone")) == 2)
    engine, gateway = sorted(lines(stack, "mine-alone"), key=lambda line: str(line["logger"]))
    assert engine["model"] == "musicgen-tiny" and engine["message"].startswith("done: 50 frames")
    assert gateway["logger"] == "gateway.middleware" and gateway["target"] == "/generate"


def test_the_log_has_the_id_of_a_request_to_triton(stack: Stack) -> None:
    song = {"PROMPT": "", "DURATION": 1.0}
    stream(stack, "musicgen-tiny", song, request_id="to-the-variant")
    front(stack, song, request_id="to-the-front")
    for name in ("to-the-variant", "to-the-front"):
        [line] = until(lambda name=name: lines(stack, name))  # type: ignore[misc]
        assert line["message"].startswith("done")
