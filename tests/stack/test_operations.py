"""Operators see the service in Triton's metrics and in the log."""

import os
import signal
import urllib.request

import aiohttp
import pytest
import tritonclient.http as triton_http

from tests.conftest import ADMIN, Stack, gone, needs_native, until
from tests.prometheus import samples
from tests.stack.client import SONG, front, lines, stream, zeros
from tests.stack.songs import GOOD, post

NAMES = {
    "musicgen_queued_songs", "musicgen_slots_in_use", "musicgen_slots", "musicgen_memory_bytes",
    "musicgen_steps_total", "musicgen_step_seconds_total", "musicgen_prefill_positions_total",
    "musicgen_audio_seconds_total", "musicgen_backend_fallback",
}  # fmt: skip


def metrics(stack: Stack) -> dict[str, float]:
    """The metrics of musicgen-tiny's engine."""
    with urllib.request.urlopen(f"http://127.0.0.1:{stack.triton_metrics}/metrics") as answer:
        page = answer.read().decode()
    return {
        sample.name: sample.value
        for sample in samples(page)
        if sample.name.startswith("musicgen_") and sample.labels["model"] == "musicgen-tiny"
    }


@pytest.fixture(scope="module")
def new_engine(stack: Stack) -> None:
    """The engine is killed and comes back: it has done no work that the metrics do not show yet."""
    slots = until(lambda: metrics(stack).get("musicgen_slots"))
    assert slots > 1
    os.kill(stack.engine(), signal.SIGKILL)
    until(lambda: metrics(stack)["musicgen_slots"] == 0)
    until(lambda: metrics(stack)["musicgen_slots"] == slots)


@pytest.mark.usefixtures("new_engine")
def test_a_dead_engine_has_no_slots_until_it_is_back(stack: Stack) -> None:
    assert metrics(stack)["musicgen_slots_in_use"] == 0


@needs_native
@pytest.mark.usefixtures("new_engine")
def test_metrics_show_the_work_of_the_engine(stack: Stack) -> None:
    before = metrics(stack)
    codes = zeros(4, 150)
    stream(stack, "musicgen-tiny", {**SONG, "DURATION": 4, "CODES": codes, "START": 150 * 640})

    def gained() -> dict[str, float]:
        after = metrics(stack)
        return {name: after[name] - before[name] for name in NAMES if name.endswith("_total")}

    until(lambda: gained()["musicgen_audio_seconds_total"])
    gain, after = gained(), metrics(stack)
    assert after.keys() == NAMES
    assert (after["musicgen_queued_songs"], after["musicgen_slots_in_use"]) == (0, 0)
    assert after["musicgen_memory_bytes"] > 100e6 and after["musicgen_backend_fallback"] == 0
    assert gain["musicgen_audio_seconds_total"] == pytest.approx(1)
    assert gain["musicgen_steps_total"] >= 50
    assert gain["musicgen_prefill_positions_total"] >= 150
    assert gain["musicgen_step_seconds_total"] > 0


def test_a_model_that_is_loaded_again_keeps_its_metrics(stack: Stack) -> None:
    """Its new stub sets them before the old one removes its own."""
    old, slots = stack.stub(), until(lambda: metrics(stack).get("musicgen_slots"))
    os.utime(stack.repository / "musicgen-tiny" / "1" / "model.py")
    with triton_http.InferenceServerClient(f"127.0.0.1:{stack.triton_http}") as client:
        client.load_model("musicgen-tiny", ADMIN)
    until(lambda: gone(old))
    assert metrics(stack).keys() == NAMES
    until(lambda: metrics(stack)["musicgen_slots"] == slots)


async def test_the_log_has_a_request_of_gateway_and_engine(stack: Stack) -> None:
    await post(stack, GOOD, headers={"X-Request-Id": "mine-alone"})
    until(lambda: len(lines(stack, "mine-alone")) == 2)
    engine, gateway = sorted(lines(stack, "mine-alone"), key=lambda line: str(line["logger"]))
    assert engine["model"] == "musicgen-tiny" and engine["message"].startswith("done: 50 frames")
    assert gateway["logger"] == "gateway.middleware" and gateway["target"] == "/generate"


def test_the_log_has_the_id_of_a_request_to_triton(stack: Stack) -> None:
    song = {"PROMPT": "", "DURATION": 0.5}
    stream(stack, "musicgen-tiny", song, request_id="to-the-variant")
    front(stack, song, request_id="to-the-front")
    for name in ("to-the-variant", "to-the-front"):
        [line] = until(lambda name=name: lines(stack, name))  # type: ignore[misc]
        assert line["message"].startswith("done")


async def test_the_log_has_no_warnings_of_libraries(stack: Stack) -> None:
    beginning = (await post(stack, {**GOOD, "format": "flac"}))[2]
    form = aiohttp.FormData({"prompt": "slow piano", "duration": "2"})
    form.add_field("audio", beginning, filename="beginning.flac")
    url = f"{stack.url}/generate"
    async with aiohttp.ClientSession() as session, session.post(url, data=form) as answer:
        assert answer.status == 200 and await answer.read()
    log = stack.log.read_text()
    assert "Warning:" not in log and "CudaDriverHelper" not in log
