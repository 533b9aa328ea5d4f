"""Services of their own, which tests configure and end."""

import asyncio
import io
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack
from http.client import HTTPException
from pathlib import Path

import aiohttp
import numpy as np
import pytest
import soundfile
from tritonclient.utils import InferenceServerException

from tests.conftest import (
    ROOT,
    TIMEOUT,
    Stack,
    descendants,
    gone,
    listen_at_ipv6,
    repository_with,
    serving,
    until,
    with_shared_memory,
)
from tests.stack.client import infer
from tests.stack.songs import GOOD, code, post, samples


@pytest.fixture(scope="module")
def own_stack(tmp_path_factory: pytest.TempPathFactory, stereo_checkpoint: Path) -> Iterator[Stack]:
    """A service whose default model is chosen, whose admin key is drawn, and whose Triton has no
    HTTP. Its repository has folders that Triton or its Python backend cannot use."""
    folder = tmp_path_factory.mktemp("own-stack")
    repository = repository_with(folder / "our models", "musicgen-tiny")
    (repository / "gone").symlink_to(folder / "nowhere")
    shutil.copytree(repository / "musicgen-tiny", repository / "rock 'n' roll")
    shutil.copytree(repository / "musicgen-tiny", repository / "broken")
    (repository / "broken" / "config.pbtxt").write_text('backend: "python')
    mine = repository / "my-music"
    mine.mkdir()
    (mine / "config.pbtxt").write_text(
        'backend: "python"\ninstance_group { kind: KIND_MODEL }\n'
        "# für Zoë\n"
        f'parameters {{ key: "checkpoint" value {{ string_value: "{stereo_checkpoint}" }} }}\n'
    )
    (mine / "1").mkdir()
    model = (repository / "musicgen-tiny" / "1" / "model.py").read_text()
    (mine / "1" / "model.py").write_text(model)
    environment = {"DEFAULT_MODEL": "my-music", "TRITON_ADMIN_KEY": "", "TRITON_HTTP_PORT": ""}
    stack = Stack(repository, environment)
    try:
        stack.wait_ready()
        yield stack
    finally:
        if stack.process.poll() is None:
            stack.stop()


async def test_the_default_model_can_be_chosen(own_stack: Stack) -> None:
    models = own_stack.get("/models")[1]["models"]
    assert [model["id"] for model in models if model["state"] == "ready"] == ["my-music"]
    status, _, body = await post(own_stack, GOOD)
    assert (status, samples(body).shape) == (200, (32_000, 2))


async def test_a_folder_that_cannot_be_used_is_left_out(own_stack: Stack) -> None:
    models = own_stack.get("/models")[1]["models"]
    assert [model["id"] for model in models] == ["musicgen-tiny", "my-music"]
    for name in ("gone", "rock 'n' roll", "broken"):
        status, _, body = await post(own_stack, {**GOOD, "model": name})
        assert (status, code(body)[0]) == (404, "unknown_model")
        assert own_stack.log.read_text().count(f"{name!r} is left out of the models: ") == 1
    assert own_stack.get("/readyz")[0] == 200


def test_no_page_in_a_browser_can_send_requests_to_triton(own_stack: Stack) -> None:
    """A browser speaks HTTP/1.1 in clear text, where HTTP/2 needs TLS; gRPC is HTTP/2."""
    for port in (own_stack.triton_http, own_stack.triton_grpc):
        url = f"http://127.0.0.1:{port}/v2/models/musicgen/infer"
        with pytest.raises((OSError, HTTPException)):  # no answer at all
            urllib.request.urlopen(url, b"{}", timeout=TIMEOUT)


async def test_a_dead_gateway_is_started_again(own_stack: Stack) -> None:
    dead = own_stack.gateway()
    os.kill(dead, signal.SIGKILL)
    until(lambda: own_stack.pid("-m gateway") not in (None, dead))
    until(lambda: own_stack.get("/readyz")[0] == 200)
    status, _, body = await post(own_stack, GOOD)
    assert (status, samples(body).shape) == (200, (32_000, 2))


def test_an_engine_ends_with_its_stub(own_stack: Stack) -> None:
    engine = own_stack.engine("my-music")
    os.kill(own_stack.stub("my-music"), signal.SIGKILL)
    until(lambda: gone(engine))
    own_stack.engine("my-music")  # the gateway has loaded the model again


def test_a_stop_leaves_nothing_behind_even_if_a_part_hangs(own_stack: Stack) -> None:
    files = f"audiocraft-service-{own_stack.process.pid}-*"
    assert list(Path("/dev/shm").glob(files))
    os.kill(own_stack.stub("my-music"), signal.SIGSTOP)
    own_stack.stop()
    assert not list(Path("/dev/shm").glob(files))


def test_every_process_ends_with_a_killed_supervisor(tmp_path: Path) -> None:
    """While songs are sent: a stub that sends to a dead Triton waits for ever."""
    stack = Stack(repository_with(tmp_path / "models", "musicgen-tiny"))
    stack.wait_ready()
    body = json.dumps({**GOOD, "duration": 200}).encode()
    headers = {"Content-Type": "application/json"}
    request = urllib.request.Request(f"{stack.url}/generate", body, headers)
    with ExitStack() as songs:
        for _ in range(2):
            songs.enter_context(urllib.request.urlopen(request, timeout=TIMEOUT))
        family = descendants(stack.process.pid)
        stack.process.kill()
        stack.process.wait()
        until(lambda: all(gone(pid) for pid in family))


async def continue_file(stack: Stack) -> tuple[int, bytes]:
    """A song that begins with a file, which is 7.4 MB for Triton."""
    file = io.BytesIO()
    noise = np.random.default_rng(0).uniform(-0.1, 0.1, (29 * 32_000, 2))
    soundfile.write(file, noise, 32_000, format="WAV")
    form = aiohttp.FormData({"prompt": "x", "duration": "29.5"})
    file.seek(0)
    form.add_field("audio", file, filename="beginning.wav")
    async with (
        aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(3 * TIMEOUT)) as session,
        session.post(f"{stack.url}/generate", data=form) as answer,
    ):
        return answer.status, await answer.read()


@pytest.mark.slow
async def test_little_shared_memory_is_a_clear_error(tmp_path: Path) -> None:
    repository = repository_with(tmp_path / "models", "musicgen-tiny")
    stack = Stack(repository, prefix=with_shared_memory(32))
    try:
        stack.wait_ready()
        filler = Path(f"/proc/{stack.triton()}/root/dev/shm/filler")
        filler.write_bytes(bytes(24_000_000))
        status, body = await continue_file(stack)
        assert (status, code(body)[0]) == (503, "shared_memory_full")
        song = {"MODEL": "musicgen-tiny", "PROMPT": "x", "DURATION": 300}  # 38 MB
        with pytest.raises(InferenceServerException, match=r"\[shared_memory_full\]") as caught:
            await infer(stack, song)
        assert caught.value.status() == "StatusCode.UNAVAILABLE"
        filler.unlink()
        # Triton holds a file only until the engine has it, so more of them than fit are no matter.
        answers = await asyncio.gather(*(continue_file(stack) for _ in range(5)))
        assert [status for status, _ in answers] == 5 * [200]
        await infer(stack, {**song, "DURATION": 0.5})
    finally:
        stack.stop()


def test_a_port_in_use_is_named_in_one_line() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = str(other.getsockname()[1])
        done = subprocess.run(
            [sys.executable, "-m", "supervisor"],
            cwd=ROOT, env={**os.environ, "PORT": port},
            capture_output=True, text=True, timeout=TIMEOUT,
        )  # fmt: skip
    assert done.returncode == 1
    (line,) = (done.stdout + done.stderr).strip().splitlines()
    assert port in line and "PORT" in line


def test_triton_listens_at_an_address_of_ipv6(tmp_path: Path) -> None:
    listen_at_ipv6().close()
    repository = repository_with(tmp_path / "models", "musicgen-tiny")
    with serving(repository, TRITON_HOST="::1") as stack:  # the gateway is there over gRPC
        for port, path in (stack.triton_http, "v2/health/live"), (stack.triton_metrics, "metrics"):
            with urllib.request.urlopen(f"http://[::1]:{port}/{path}") as answer:
                assert answer.status == 200
