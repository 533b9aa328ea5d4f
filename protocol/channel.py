"""gRPC channels to Triton."""

from __future__ import annotations

from pathlib import Path

import grpc

from protocol import tls

OPTIONS = [("grpc.enable_http_proxy", 0), ("grpc.ssl_target_name_override", tls.NAME)]
ADMIN_KEY = "triton-grpc-protocol-admin-key"  # the header that opens model control


def credentials(certificates: Path | None) -> grpc.ChannelCredentials | None:
    """Those of the folder's certificate; None, without TLS, where there is none."""
    if certificates is None:
        return None
    return grpc.ssl_channel_credentials(*tls.contents(certificates))
