"""Triton's container with the chart's settings, and the commands that Kubernetes runs in it."""

import os
import signal
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest
import tritonclient.grpc as triton_grpc
import yaml

from tests.conftest import Stack, repository_with, until
from tests.stack.client import FOREVER, tensors
from tests.test_chart import CHART, environment, pods, render


@pytest.fixture(scope="module")
def container() -> dict[str, Any]:
    manifests = render(yaml.safe_load((CHART / "ci" / "cpu-values.yaml").read_text()))
    containers = [container for _, pod in pods(manifests) for container in pod["containers"]]
    [triton] = [container for container in containers if container["name"] == "triton"]
    return dict(triton)


@pytest.fixture(scope="module")
def pod(container: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    folder = tmp_path_factory.mktemp("pod")
    own = {"TRITON_ADMIN_KEY": "", "TRITON_ADMIN_KEY_FILE": str(folder / "admin-key")}
    repository = repository_with(folder / "models", "musicgen-tiny")
    pod = Stack(repository, {**environment(container), **own}, program="supervisor.container")
    try:
        until(lambda: is_ready(pod, container))
        yield pod
    finally:
        pod.stop()
        print(pod.log.read_text())


def started(pod: Stack, command: list[str]) -> "subprocess.Popen[bytes]":
    """The command, with the port of this pod in place of the usual one, and without a pause."""
    port = str(pod.triton_metrics)
    return subprocess.Popen([w.replace("8102", port).replace("sleep 10", ":") for w in command])


def is_ready(pod: Stack, container: dict[str, Any]) -> bool:
    return started(pod, container["readinessProbe"]["exec"]["command"]).wait() == 0


def test_a_pod_is_ready_while_it_has_slots(pod: Stack, container: dict[str, Any]) -> None:
    assert container["startupProbe"]["exec"] == container["readinessProbe"]["exec"]
    os.kill(pod.engine(), signal.SIGKILL)
    until(lambda: not is_ready(pod, container))
    until(lambda: is_ready(pod, container))


def test_a_pod_stops_after_its_last_song(pod: Stack, container: dict[str, Any]) -> None:
    drain = container["lifecycle"]["preStop"]["exec"]["command"]
    plays = ["sh", "-c", 'curl -sf localhost:8102/metrics | grep -q "^musicgen_slots_in_use{.* 1$"']

    def playing() -> bool:
        return started(pod, plays).wait() == 0

    with triton_grpc.InferenceServerClient(f"127.0.0.1:{pod.triton_grpc}") as client:
        client.start_stream(lambda result, error: None)
        song = tensors(triton_grpc, {**FOREVER, "PACE": "playback"})
        client.async_stream_infer("musicgen-tiny", song)
        until(playing)
        stopping = started(pod, drain)
        for _ in range(5):
            ended = stopping.poll()
            assert playing()
            assert ended is None
        client.stop_stream(cancel_requests=True)
    assert stopping.wait() == 0
