import re
import socket
from contextlib import ExitStack

import pytest

from gateway.settings import Settings as GatewaySettings
from supervisor import ports
from supervisor.settings import Settings


@pytest.fixture
def free() -> list[int]:
    """Four ports that nothing listened on a moment ago."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(4)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


def check(numbers: list[int], host: str = "127.0.0.1") -> None:
    port, http, grpc, metrics = numbers
    ports.check(Settings(http, grpc, metrics), GatewaySettings(host, port))


def test_free_ports_pass(free: list[int]) -> None:
    check(free)


@pytest.mark.parametrize(
    ("place", "variable"),
    [(0, "PORT"), (1, "TRITON_HTTP_PORT"), (2, "TRITON_GRPC_PORT"), (3, "TRITON_METRICS_PORT")],
)
def test_a_taken_port_is_named_with_its_variable(
    free: list[int], place: int, variable: str
) -> None:
    with socket.create_server(("127.0.0.1", free[place])):
        expected = (
            f"port {free[place]} is taken: stop what listens there or choose another "
            f"with {variable}=..."
        )
        with pytest.raises(ValueError, match=f"^{re.escape(expected)}$"):
            check(free)


def test_two_services_cannot_share_a_port(free: list[int]) -> None:
    with pytest.raises(ValueError, match="TRITON_HTTP_PORT"):
        check([free[0], free[0], *free[2:]])


@pytest.mark.parametrize("host", ["203.0.113.7", "no such host"])
def test_a_host_that_is_not_this_machines_is_named(free: list[int], host: str) -> None:
    with pytest.raises(ValueError, match=f"HOST={host} is not an address of this machine"):
        check(free, host)
