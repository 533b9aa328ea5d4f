"""Threads without which their process is of no use."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable

log = logging.getLogger(__name__)


def start_essential(target: Callable[[], None]) -> threading.Thread:
    """Start a thread whose failure ends the process, which is then started again: without the
    thread it would only seem to serve."""

    def run() -> None:
        try:
            target()
        except BaseException:
            log.exception("a thread cannot go on")
            os._exit(1)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    return thread
