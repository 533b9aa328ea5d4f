import re
import socket
from contextlib import ExitStack

import pytest

from gateway.settings import GatewaySettings
from supervisor import ports
from supervisor.settings import TritonSettings
from tests.conftest import listen_at_ipv6


@pytest.fixture
def free() -> list[int]:
    """Four ports that were free a moment ago."""
    with ExitStack() as stack:
        listeners = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(4)]
        return [listener.getsockname()[1] for listener in listeners]


def check(numbers: list[int], host: str = "127.0.0.1") -> None:
    port, http, grpc, metrics = numbers
    ports.check(TritonSettings(http, grpc, metrics), GatewaySettings(host, port))


def test_free_ports_pass(free: list[int]) -> None:
    check(free)


@pytest.mark.parametrize(
    ("index", "variable"),
    [(0, "PORT"), (1, "TRITON_HTTP_PORT"), (2, "TRITON_GRPC_PORT"), (3, "TRITON_METRICS_PORT")],
)
def test_a_taken_port_is_named_with_its_variable(
    free: list[int], index: int, variable: str
) -> None:
    with socket.create_server(("127.0.0.1", free[index])):
        expected = (
            f"port {free[index]} is taken: stop what listens there or choose another "
            f"with {variable}=..."
        )
        with pytest.raises(ValueError, match=f"^{re.escape(expected)}$"):
            check(free)


def test_a_port_that_is_taken_for_ipv6_alone_is_named(free: list[int]) -> None:
    with (
        listen_at_ipv6(free[0]),
        pytest.raises(ValueError, match=f"port {free[0]} is taken.* PORT="),
    ):
        check(free)


def test_triton_needs_no_port_for_http(free: list[int]) -> None:
    ports.check(TritonSettings(None, free[2], free[3]), GatewaySettings("127.0.0.1", free[0]))


def test_two_services_cannot_share_a_port(free: list[int]) -> None:
    with pytest.raises(ValueError, match="TRITON_HTTP_PORT"):
        check([free[0], free[0], *free[2:]])


@pytest.mark.parametrize("host", ["203.0.113.7", "no such host", "a..b", "long" * 20])
def test_a_host_of_another_machine_is_named(free: list[int], host: str) -> None:
    with pytest.raises(ValueError, match=f"HOST={host} is not an address of this machine"):
        check(free, host)
