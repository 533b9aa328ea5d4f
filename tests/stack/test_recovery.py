"""Processes are killed; the service starts them again, and no song is lost."""

import asyncio
import io
import os
import signal
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from functools import partial

import aiohttp
import numpy as np
import pytest
import soundfile
import tritonclient.grpc as triton_grpc
from tritonclient.utils import InferenceServerException

from musicgen_engine.stub.engine_process import STABLE
from tests.conftest import TIMEOUT, Stack, descendants, eventually, until
from tests.prometheus import total
from tests.stack.client import FOREVER, infer, model_status, status, stream
from tests.stack.songs import GOOD, code, post, samples, song
from tests.stack.test_generate import busy, until_busy


@pytest.fixture(autouse=True)
def ready(stack: Stack) -> Iterator[None]:
    """Leave a service that has recovered to the next test, here or elsewhere."""
    yield
    until(lambda: stack.get("/readyz")[0] == 200)
    until(lambda: model_status(stack)["state"] == "ready")


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


def noise(seconds: int) -> bytes:
    """A FLAC of low frequencies."""
    steps = np.random.default_rng(2).standard_normal(seconds * 32_000)
    flac = io.BytesIO()
    soundfile.write(flac, (0.01 * steps.cumsum()).clip(-1, 1), 32_000, format="FLAC")
    return flac.getvalue()


CONTINUED = [("wav", "whole"), ("wav", "new"), ("flac", "whole"), ("ogg", "whole"), ("mp3", "new")]
BEGINNING = noise(seconds=10)


async def continued(stack: Stack, format: str, output: str, on_part: Callable[[], None]) -> bytes:
    """The file of a song that goes on from BEGINNING; each part of it calls `on_part`."""
    fields = {"model": "musicgen-tiny", "prompt": "slow piano", "duration": "10.5", "seed": "5"}
    form = aiohttp.FormData({**fields, "format": format, "output": output})
    form.add_field("audio", BEGINNING, filename="beginning.flac")
    data = b""
    async with (
        aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(3 * TIMEOUT)) as session,
        session.post(f"{stack.url}/generate", data=form) as answer,
    ):
        assert answer.status == 200, await answer.text()
        async for part in answer.content.iter_any():
            data += part
            on_part()
    return data


@pytest.fixture
def steady(stack: Stack) -> None:
    """Wait until a death of the engine counts as the first one, so that no new song is refused."""
    until(lambda: model_status(stack)["state"] == "ready")
    time.sleep(STABLE + 1)


@pytest.mark.usefixtures("steady")
@pytest.mark.parametrize(
    "delay", [0.0, *(pytest.param(delay, marks=pytest.mark.slow) for delay in (0.1, 0.3, 0.6))]
)
async def test_an_uploaded_beginning_survives_the_engine(stack: Stack, delay: float) -> None:
    """The engine dies `delay` seconds after the first byte, when most of each beginning is yet to
    be played."""
    engine, first_byte = stack.engine(), asyncio.Event()

    async def kill() -> None:
        await first_byte.wait()
        await asyncio.sleep(delay)
        os.kill(engine, signal.SIGKILL)

    whole = await asyncio.gather(*(continued(stack, *one, lambda: None) for one in CONTINUED))
    *songs, _ = await asyncio.gather(
        *(continued(stack, *one, first_byte.set) for one in CONTINUED), kill()
    )
    assert stack.engine() != engine
    assert songs == whole


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
    wanted = [{**LONG, "duration": 5, "seed": seed} for seed in range(20)]
    whole = [await post(stack, body) for body in wanted[:2]]
    songs = [asyncio.create_task(post(stack, body)) for body in wanted]
    await until_busy(stack, 17)  # more than the engine has slots
    os.kill(stack.engine(), signal.SIGKILL)
    answers = await asyncio.gather(*songs)
    for code_, _, body in answers:
        assert code_ == 200 and samples(body).shape == (160_000, 1)
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


def kill_stubs_twice(stack: Stack) -> int:
    """The second one while Triton waits for it: no load of a model ends after that."""
    victim, first = stack.triton(), stack.stub()
    os.kill(first, signal.SIGKILL)
    until(lambda: stack.stub() != first)
    os.kill(stack.stub(), signal.SIGKILL)
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
        pytest.param(
            partial(send_signal, signal.SIGSTOP, Stack.stub),
            id="stub-SIGSTOP",
            marks=pytest.mark.slow,
        ),
        pytest.param(send_what_ends_triton, id="triton-request", marks=pytest.mark.slow),
        pytest.param(kill_stubs_twice, id="stub-twice", marks=pytest.mark.slow),
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


async def test_queued_songs_keep_their_places(stack: Stack) -> None:
    """They come back behind those that had a slot, and before a new one."""
    slots = model_status(stack)["slots"]
    names, songs = [f"accepted-{number}" for number in range(slots + 3)], []
    endless = {**LONG, "duration": 300}

    def begin(name: str) -> None:
        headers = {"X-Request-Id": name}
        songs.append(asyncio.create_task(post(stack, endless, headers=headers)))

    async def places() -> dict[str, int]:
        """The positions of the queued songs."""
        jobs = {name: await asyncio.to_thread(stack.get, f"/generations/{name}") for name in names}
        return {name: job["position"] for name, (_, job) in jobs.items() if job.get("position")}

    async def all_are_queued() -> bool:
        return sorted((await places()).values()) == list(range(1, len(names) - slots + 1))

    try:
        for name in names:
            begin(name)
        await eventually(all_are_queued)
        before = await places()
        os.kill(stack.engine(), signal.SIGKILL)
        names.append("newcomer")
        begin("newcomer")
        await eventually(all_are_queued)
        assert await places() == {**before, "newcomer": 4}
    finally:
        for song in songs:
            song.cancel()

    async def idle() -> bool:
        return not await busy(stack)

    await eventually(idle)


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


@pytest.mark.slow
async def test_a_model_whose_engine_keeps_dying_is_unavailable(stack: Stack) -> None:
    def dying() -> bool:
        if stack.model("musicgen-tiny")["state"] == "unavailable":
            return True
        os.kill(stack.engine(), signal.SIGKILL)
        return False

    until(lambda: model_status(stack)["state"] == "ready")  # the test before killed the engine, too
    await song(stack, GOOD)
    until(dying)
    assert "SIGKILL" in stack.model("musicgen-tiny")["reason"]
    code_, body = stack.get("/readyz")
    assert (code_, body["error"]["code"]) == (503, "engine_unavailable")
    until(lambda: stack.get("/readyz")[0] == 200)
    assert len(await song(stack, GOOD)) == 32_000
