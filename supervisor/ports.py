"""The ports that the service listens on: are they free?"""

from __future__ import annotations

import errno
import socket
from contextlib import ExitStack

from gateway.settings import Settings as GatewaySettings
from supervisor.settings import Settings


def check(settings: Settings, gateway: GatewaySettings) -> None:
    """Binds every address for a moment, all at once, so that two of the same are found too.

    Raises:
        ValueError: names the port or the host, and the variable that chooses another.
    """
    with ExitStack() as stack:
        for variable, host, port in (
            ("PORT", gateway.host, gateway.port),
            ("TRITON_HTTP_PORT", settings.triton_host, settings.triton_http_port),
            ("TRITON_GRPC_PORT", settings.triton_host, settings.triton_grpc_port),
            ("TRITON_METRICS_PORT", settings.triton_host, settings.triton_metrics_port),
        ):
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
            except OSError as error:
                if error.errno != errno.EADDRINUSE:
                    name = "HOST" if variable == "PORT" else "TRITON_HOST"
                    raise ValueError(f"{name}={host} is not an address of this machine") from error
                raise ValueError(
                    f"port {port} is taken: stop what listens there or choose another "
                    f"with {variable}=..."
                ) from None
