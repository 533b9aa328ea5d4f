"""Triton's model control is open to the gateway alone, health and metadata to every client."""

import urllib.error
import urllib.request
from typing import Any

import pytest
import tritonclient.grpc as triton_grpc
from tritonclient.utils import InferenceServerException

from gateway.triton import TritonClient
from protocol.errors import Internal
from tests.conftest import ADMIN, Stack

RESTRICTED = [
    ("POST", "repository/index"),
    ("POST", "repository/models/musicgen-tiny/load"),
    ("POST", "repository/models/musicgen-tiny/unload"),
    ("GET", "systemsharedmemory/status"),
    ("GET", "cudasharedmemory/status"),
    ("GET", "trace/setting"),
    ("GET", "logging"),
]


@pytest.mark.parametrize(("method", "path"), RESTRICTED)
def test_model_control_over_http_needs_the_admin_key(stack: Stack, method: str, path: str) -> None:
    def status(headers: dict[str, str]) -> int:
        url, body = f"http://127.0.0.1:{stack.triton_http}/v2/{path}", b"{}"
        request = urllib.request.Request(url, body if method == "POST" else None, headers)
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                return int(answer.status)
        except urllib.error.HTTPError as error:
            with error:
                return error.code

    assert status({}) == status({"admin-key": "another-key-of-tests"}) == 403
    if not path.endswith("load"):
        assert status(ADMIN) == 200


@pytest.mark.parametrize(
    "ask",
    [
        lambda client, headers: client.get_model_repository_index(headers),
        lambda client, headers: client.get_system_shared_memory_status("", headers),
        lambda client, headers: client.get_cuda_shared_memory_status("", headers),
        lambda client, headers: client.get_trace_settings(None, headers),
        lambda client, headers: client.get_log_settings(headers),
    ],
    ids=["repository", "shared-memory", "cuda-shared-memory", "trace", "logging"],
)
def test_model_control_over_grpc_needs_the_admin_key(stack: Stack, ask: Any) -> None:
    header = "triton-grpc-protocol-admin-key"
    with triton_grpc.InferenceServerClient(f"127.0.0.1:{stack.triton_grpc}") as client:
        for headers in (None, {header: "another-key-of-tests"}):
            with pytest.raises(InferenceServerException, match="protocol is restricted"):
                ask(client, headers)
        ask(client, {header: ADMIN["admin-key"]})


def test_health_metadata_and_statistics_need_no_key(stack: Stack) -> None:
    with triton_grpc.InferenceServerClient(f"127.0.0.1:{stack.triton_grpc}") as client:
        assert client.is_server_live() and client.is_model_ready("musicgen")
        assert client.get_model_metadata("musicgen").name == "musicgen"
        assert client.get_model_config("musicgen").config.name == "musicgen"
        assert client.get_inference_statistics("musicgen").model_stats[0].name == "musicgen"


async def test_a_gateway_with_a_wrong_admin_key_fails_and_logs_why(
    stack: Stack, caplog: pytest.LogCaptureFixture
) -> None:
    client = TritonClient(f"127.0.0.1:{stack.triton_grpc}", 60, "another-key-of-tests")
    for call in (client.loaded(), client.load("musicgen-tiny"), client.unload("musicgen-tiny")):
        with pytest.raises(Internal, match="refuses the gateway"):
            await call
    assert "give the gateway the same" in caplog.text
    assert (await client.catalogue())[0].name
    await client.close()
