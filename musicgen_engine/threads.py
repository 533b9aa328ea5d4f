"""Threads without which their process is of no use."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable

log = logging.getLogger(__name__)


def essential(target: Callable[[], None]) -> None:
    """Call it; its failure ends the process, which is then started again: without it the process
    would only seem to serve."""
    try:
        target()
    except BaseException:
        log.exception("a thread cannot go on")
        os._exit(1)


def start_essential(target: Callable[[], None]) -> threading.Thread:
    """Start an essential thread."""
    thread = threading.Thread(target=essential, args=[target], daemon=True)
    thread.start()
    return thread
