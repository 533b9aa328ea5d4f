"""The gateway as a process."""

import json
import os
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.client import HTTPConnection, HTTPResponse, IncompleteRead

import pytest

from tests.conftest import ROOT, TIMEOUT, free_ports, until

# A gateway whose Triton pauses before each second of audio.
GATEWAY = """
import sys
from gateway.__main__ import run
from gateway.app import create_app
from gateway.settings import GatewaySettings
from tests.gateway.fake_triton import FakeTriton

triton = FakeTriton("musicgen-tiny")
port, drain_timeout, triton.pause = int(sys.argv[1]), float(sys.argv[2]), float(sys.argv[3])
settings = GatewaySettings(port=port, drain_timeout=drain_timeout)
run(create_app(settings, lambda _: triton), settings)
"""


def start(**environment: object) -> subprocess.Popen[str]:
    settings = {name: str(value) for name, value in environment.items()}
    return subprocess.Popen(
        [sys.executable, "-m", "gateway"],
        env={**os.environ, "TRITON_GRPC": "127.0.0.1:1", **settings},
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.fixture
def taken() -> Iterator[int]:
    """A port that is in use."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


def test_a_wrong_setting_ends_the_gateway_with_one_line() -> None:
    with start(PORT="http") as process:
        _, output = process.communicate(timeout=TIMEOUT)
    assert process.returncode == 2
    assert output == "gateway: PORT='http' is wrong: set it to a whole number from 1 to 65535\n"


def test_a_port_in_use_ends_the_gateway_with_one_line(taken: int) -> None:
    with start(PORT=taken) as process:
        _, output = process.communicate(timeout=TIMEOUT)
    assert process.returncode == 2
    assert output.splitlines()[-1].startswith(
        f"gateway: HOST=127.0.0.1 PORT={taken} cannot be used"
    )
    assert "Traceback" not in output


def healthy(port: int, host: str = "127.0.0.1") -> bool:
    with suppress(OSError), urllib.request.urlopen(f"http://{host}:{port}/healthz") as response:
        return bool(response.status == 200)
    return False


def test_localhost_is_ipv6_too() -> None:
    [port] = free_ports(1)
    with start(PORT=port) as process:
        until(lambda: healthy(port))
        assert healthy(port, "[::1]")
        process.terminate()


def test_sigterm_ends_the_gateway_without_errors() -> None:
    [port] = free_ports(1)
    with start(PORT=port) as process:
        until(lambda: healthy(port))
        process.send_signal(signal.SIGTERM)
        _, output = process.communicate(timeout=TIMEOUT)
    assert process.returncode == 0
    assert "Traceback" not in output


def test_stderr_has_no_file_name_of_a_client() -> None:
    """aiohttp warns about a name that it cannot read."""
    [port] = free_ports(1)
    part = "Content-Disposition: form-data; name=audio; filename*=UTF-8''secret%ff"
    body, kind = f"--x\r\n{part}\r\n\r\n\r\n--x--\r\n", "multipart/form-data; boundary=x"
    with start(PORT=port) as process:
        until(lambda: healthy(port))
        connection = HTTPConnection("127.0.0.1", port)
        connection.request("POST", "/generate", body, {"Content-Type": kind})
        assert connection.getresponse().status == 422
        connection.close()
        process.terminate()
        _, output = process.communicate(timeout=TIMEOUT)
    assert "invalid_field" in output and "secret" not in output


@contextmanager
def stopped_in_mid_song(
    drain: float, pause: float, duration: float
) -> Iterator[tuple["subprocess.Popen[bytes]", HTTPResponse]]:
    """A gateway that got SIGTERM, and the rest of a song; each second of it takes `pause`."""
    [port] = free_ports(1)
    command = [sys.executable, "-c", GATEWAY, str(port), str(drain), str(pause)]
    with subprocess.Popen(command, cwd=ROOT) as process:
        until(lambda: healthy(port))
        connection = HTTPConnection("127.0.0.1", port)
        song = json.dumps({"prompt": "jazz", "duration": duration})
        connection.request("POST", "/generate", song, {"Content-Type": "application/json"})
        response = connection.getresponse()
        process.send_signal(signal.SIGTERM)
        yield process, response
        process.kill()
        connection.close()


def test_a_stopping_gateway_completes_songs_that_end_in_time() -> None:
    with stopped_in_mid_song(drain=TIMEOUT, pause=0.5, duration=2) as (process, song):
        assert len(song.read()) == int(song.headers["Content-Length"])
        assert process.wait(TIMEOUT) == 0


def test_a_stopping_gateway_aborts_other_songs() -> None:
    with stopped_in_mid_song(drain=1, pause=0.5, duration=300) as (process, song):
        assert process.wait(TIMEOUT) == 0
        with pytest.raises(IncompleteRead):
            song.read()
