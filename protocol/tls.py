"""TLS between gateway and Triton. Each shows the other a certificate of the same authority."""

from __future__ import annotations

import ssl
from contextlib import suppress
from pathlib import Path

FILES = ("ca.crt", "tls.key", "tls.crt")  # in the order of grpc.ssl_channel_credentials
NAME = "triton"  # in the certificate: addresses of servers change


def check(folder: Path) -> None:
    """Shake hands, with the same certificate on both sides.

    Raises:
        OSError: a file is missing, or not what it should be; the text says how.
    """
    authority, key, certificate = (folder / name for name in FILES)
    client = ssl.create_default_context(ssl.Purpose.SERVER_AUTH, cafile=authority)
    server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=authority)
    server.verify_mode = ssl.CERT_REQUIRED
    for context in (client, server):
        context.load_cert_chain(certificate, key)
    there, back = ssl.MemoryBIO(), ssl.MemoryBIO()
    caller = client.wrap_bio(back, there, server_hostname=NAME)
    called = server.wrap_bio(there, back, server_side=True)
    for side in (caller, called, caller, called):
        with suppress(ssl.SSLWantReadError):
            side.do_handshake()


def contents(folder: Path) -> tuple[bytes, ...]:
    return tuple((folder / name).read_bytes() for name in FILES)
