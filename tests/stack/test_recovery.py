"""Processes are killed; the service starts them again, and no song is lost."""

import asyncio
import os
import signal
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from functools import partial

import aiohttp
import pytest
import tritonclient.grpc as triton_grpc
from tritonclient.utils import InferenceServerException

from tests.conftest import TIMEOUT, Stack, descendants, until
from tests.prometheus import total
from tests.stack.client import FOREVER, infer, model_status, status, stream
from tests.stack.songs import GOOD, code, post, samples, song
from tests.stack.test_generate import until_busy


@pytest.fixture(autouse=True)
def ready(stack: Stack) -> None:
    """Wait until the service has recovered from the test before."""
    until(lambda: stack.get("/readyz")[0] == 200)


@dataclass
class Survivor:
    """A song during which processes are killed."""

    wav: bytes
    resumes: float  # how many times the gateway resumed it
    without_triton: tuple[int, bytes]  # status and body of another request, while Triton was dead


LONG = {**GOOD, "model": "musicgen-tiny", "duration": 31, "seed": 11}  # longer than a window


async def survive(stack: Stack) -> Survivor:
    async with (
        aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(3 * TIMEOUT)) as session,
        session.post(f"{stack.url}/generate", json=LONG) as answer,
    ):
        assert answer.status == 200

        async def resumes() -> float:
            async with session.get(f"{stack.url}/metrics") as page:
                return total(await page.text(), "gateway_resumes_total")

        before = await resumes()
        wav = await answer.content.readexactly(2 * 64_000)
        os.kill(stack.engine(), signal.SIGKILL)
        wav += await answer.content.readexactly(6 * 64_000)
        os.kill(stack.stub(), signal.SIGKILL)
        wav += await answer.content.readexactly(6 * 64_000)
        os.kill(stack.triton(), signal.SIGKILL)
        await asyncio.to_thread(until, lambda: stack.get("/readyz")[0] == 503)
        status, _, body = await post(stack, GOOD)
        wav += await answer.content.readexactly(6 * 64_000)
        os.kill(stack.engine(), signal.SIGKILL)
        wav += await answer.content.read()
        return Survivor(wav, await resumes() - before, (status, body))


@pytest.fixture(scope="module")
def survivor(stack: Stack) -> Survivor:
    until(lambda: stack.get("/readyz")[0] == 200)
    return asyncio.run(survive(stack))


@pytest.mark.slow
async def test_a_song_survives_engine_stub_and_triton(stack: Stack, survivor: Survivor) -> None:
    assert survivor.resumes == 4
    _, _, whole = await post(stack, LONG)
    assert survivor.wav == whole


@pytest.mark.slow
def test_a_dead_triton_is_an_error_or_a_wait(survivor: Survivor) -> None:
    status, body = survivor.without_triton
    assert status == 200 or (status, code(body)[0]) == (503, "triton_unavailable")


async def test_a_batch_and_its_queue_survive_the_engine(stack: Stack) -> None:
    wanted = [{**LONG, "duration": 2.5, "seed": seed} for seed in range(20)]
    whole = [await post(stack, body) for body in wanted[:2]]
    songs = [asyncio.create_task(post(stack, body)) for body in wanted]
    await until_busy(stack, 20)
    os.kill(stack.engine(), signal.SIGKILL)
    answers = await asyncio.gather(*songs)
    for code_, _, body in answers:
        assert code_ == 200 and samples(body).shape == (80_000, 1)
    assert [answer[2] for answer in answers[:2]] == [answer[2] for answer in whole]


def send_signal(number: signal.Signals, process: Callable[[Stack], int], stack: Stack) -> int:
    victim = process(stack)
    os.kill(victim, number)
    return victim


def send_what_ends_triton(stack: Stack) -> int:
    """A request for the classes of a text, which divides by zero in tritonserver 24.10."""
    victim = stack.triton()
    with triton_grpc.InferenceServerClient(f"127.0.0.1:{stack.triton_grpc}") as client:
        outputs = [triton_grpc.InferRequestedOutput("STATUS", class_count=5)]
        with suppress(InferenceServerException):
            client.infer("musicgen", [], outputs=outputs)
    return victim


@pytest.mark.parametrize(
    "end",
    [
        # It tries to end and never does, while songs run.
        pytest.param(partial(send_signal, signal.SIGTERM, Stack.triton), id="triton-SIGTERM"),
        pytest.param(
            partial(send_signal, signal.SIGSTOP, Stack.triton),
            id="triton-SIGSTOP",
            marks=pytest.mark.slow,
        ),
        pytest.param(partial(send_signal, signal.SIGSTOP, Stack.stub), id="stub-SIGSTOP"),
        pytest.param(send_what_ends_triton, id="triton-request", marks=pytest.mark.slow),
    ],
)
async def test_songs_go_on_after_a_process_hangs_or_ends(
    stack: Stack, end: Callable[[Stack], int]
) -> None:
    wanted = [{**GOOD, "duration": 12, "seed": seed} for seed in range(4)]
    songs = [asyncio.create_task(post(stack, body)) for body in wanted]
    await until_busy(stack, 4)
    victim = await asyncio.to_thread(end, stack)
    for status_, _, body in await asyncio.gather(*songs):
        assert status_ == 200 and samples(body).shape == (384_000, 1)
    until(lambda: victim not in descendants(stack.process.pid))


def test_triton_clients_are_told_of_a_dead_engine(stack: Stack) -> None:
    with ThreadPoolExecutor(2) as pool:
        request = {"MODEL": "musicgen-tiny", **FOREVER}
        plain = pool.submit(asyncio.run, infer(stack, request))
        streamed = pool.submit(stream, stack, "musicgen-tiny", {**FOREVER, "STREAM": True})
        until(lambda: model_status(stack)["running"] == 2)
        os.kill(stack.engine(), signal.SIGKILL)
        error = plain.exception(TIMEOUT)
        *_, failed, last = streamed.result()
    assert isinstance(error, InferenceServerException)
    assert error.status() == "StatusCode.UNAVAILABLE"
    assert error.message().startswith("[engine_unavailable] ")
    assert isinstance(last, InferenceServerException)
    assert last.message().startswith("[engine_unavailable] ")
    data = status(failed)
    assert (data["state"], data["code"]) == ("failed", "engine_unavailable")
    assert "SIGKILL" in data["message"] and data["retry_after"] == 10


async def test_a_model_whose_engine_keeps_dying_is_unavailable(stack: Stack) -> None:
    def dying() -> bool:
        if stack.model("musicgen-tiny")["state"] == "unavailable":
            return True
        os.kill(stack.engine(), signal.SIGKILL)
        return False

    await song(stack, GOOD)
    until(dying)
    assert "SIGKILL" in stack.model("musicgen-tiny")["reason"]
    code_, body = stack.get("/readyz")
    assert (code_, body["error"]["code"]) == (503, "engine_unavailable")
    until(lambda: stack.get("/readyz")[0] == 200)
    assert len(await song(stack, GOOD)) == 32_000
