"""The process at the other end of a socket."""

from __future__ import annotations

import socket
import struct


def peer(connection: socket.socket) -> tuple[int, int]:
    """Its process id and its user id, as the kernel knows them."""
    credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
    process, user, _group = struct.unpack("3i", credentials)
    return process, user
