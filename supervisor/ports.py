"""Checks that the ports of the service are free."""

from __future__ import annotations

import errno
import socket
from contextlib import ExitStack

from gateway.settings import GatewaySettings
from supervisor.settings import TritonSettings


def check(triton: TritonSettings, gateway: GatewaySettings) -> None:
    """Binds every address for a moment, all at once, which also finds two equal ones.

    Raises:
        ValueError: names the port or the host, and the variable that chooses another.
    """
    addresses = [
        ("PORT", gateway.host, gateway.port),
        ("TRITON_HTTP_PORT", triton.host, triton.http_port),
        ("TRITON_GRPC_PORT", triton.host, triton.grpc_port),
        ("TRITON_METRICS_PORT", triton.host, triton.metrics_port),
    ]
    if gateway.host == "127.0.0.1":
        addresses.append(("PORT", "::1", gateway.port))  # `localhost` means it, too
    with ExitStack() as stack:
        for variable, host, port in addresses:
            if port is None:
                continue
            try:
                family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
                listener = stack.enter_context(socket.socket(family))
                listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                listener.bind((host, port))
                listener.listen()
            except PermissionError:
                raise ValueError(
                    f"port {port} is not for this user: choose one above 1023 with {variable}=..."
                ) from None
            except (OSError, UnicodeError) as error:  # the second of what cannot be a name
                if isinstance(error, OSError) and error.errno == errno.EADDRINUSE:
                    raise ValueError(
                        f"port {port} is taken: stop what listens there or choose another "
                        f"with {variable}=..."
                    ) from None
                if host != gateway.host and variable == "PORT":
                    continue  # this machine has no IPv6
                name = "HOST" if variable == "PORT" else "TRITON_HOST"
                raise ValueError(f"{name}={host} is not an address of this machine") from None
