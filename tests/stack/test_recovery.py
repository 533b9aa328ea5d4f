"""Processes are killed; the service starts them again, and no song is lost."""

import asyncio
import os
import signal
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

import aiohttp
import pytest
from tritonclient.utils import InferenceServerException

from tests.conftest import TIMEOUT, Stack, gone, until
from tests.prometheus import total
from tests.stack.client import FOREVER, infer, model_status, status, stream
from tests.stack.songs import GOOD, code, post, samples, song
from tests.stack.test_generate import until_busy


@pytest.fixture(autouse=True)
def ready(stack: Stack) -> None:
    """The service has recovered from the test before: an engine that dies twice in a row starts
    again later."""
    until(lambda: stack.get("/readyz")[0] == 200)


def triton(stack: Stack) -> int:
    return int(until(lambda: stack.pid("tritonserver", "--model-repository")))


def gateway(stack: Stack) -> int:
    return int(until(lambda: stack.pid("-m gateway")))


LONG = {**GOOD, "duration": 31, "seed": 11}  # longer than a window


@pytest.fixture(scope="module")
def whole(stack: Stack) -> bytes:
    """The long song without a death."""
    return asyncio.run(post(stack, LONG))[2]


async def resumes(session: aiohttp.ClientSession, stack: Stack) -> float:
    """How many times the gateway resumed a song."""
    async with session.get(f"{stack.url}/metrics") as answer:
        return total(await answer.text(), "gateway_resumes_total")


Kill = tuple[float, Callable[[], int]]  # when so many seconds of music are here: which process


async def survivor(stack: Stack, kills: Sequence[Kill]) -> bytes:
    """The long song during which processes are killed; it breaks off each time."""
    async with (
        aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(TIMEOUT)) as session,
        session.post(f"{stack.url}/generate", json=LONG) as answer,
    ):
        assert answer.status == 200
        before = await resumes(session, stack)
        received = b""
        for seconds, process in kills:
            received += await answer.content.readexactly(round(seconds * 64_000) - len(received))
            os.kill(process(), signal.SIGKILL)
        received += await answer.content.read()
        assert await resumes(session, stack) == before + len(kills)
        return received


async def test_a_song_survives_its_engine_and_its_stub(stack: Stack, whole: bytes) -> None:
    orphans = []

    def stub() -> int:
        orphans.append(stack.engine())
        return stack.stub()

    assert await survivor(stack, [(2, stack.engine), (10, stub), (20, stack.engine)]) == whole
    until(lambda: gone(orphans[0]))  # the engine dies with its stub


async def test_a_song_survives_triton(stack: Stack, whole: bytes) -> None:
    survives = asyncio.create_task(survivor(stack, [(5, lambda: triton(stack))]))
    await asyncio.to_thread(until, lambda: stack.get("/readyz")[0] == 503)
    code_, _, body = await post(stack, GOOD)
    assert code_ == 200 or (code_, code(body)[0]) == (503, "triton_unavailable")
    assert await survives == whole
    until(lambda: stack.get("/readyz")[0] == 200)


async def test_a_dead_gateway_is_started_again(stack: Stack) -> None:
    dead = gateway(stack)
    os.kill(dead, signal.SIGKILL)
    until(lambda: stack.pid("-m gateway") not in (None, dead))
    until(lambda: stack.get("/readyz")[0] == 200)
    assert len(await song(stack, GOOD)) == 32_000


async def test_a_batch_and_its_queue_survive_the_engine(stack: Stack) -> None:
    wanted = [{**GOOD, "duration": 4, "seed": seed} for seed in range(20)]
    whole = [await post(stack, body) for body in wanted[:2]]
    songs = [asyncio.create_task(post(stack, body)) for body in wanted]
    await until_busy(stack, 20)
    os.kill(stack.engine(), signal.SIGKILL)
    answers = await asyncio.gather(*songs)
    for code_, _, body in answers:
        assert code_ == 200 and samples(body).shape == (4 * 32_000, 1)
    assert [answer[2] for answer in answers[:2]] == [answer[2] for answer in whole]


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
