"""The logs of gateway, stubs and engines share a bound on their lines."""

from __future__ import annotations

import logging

END = 4_000  # characters of a long text that are kept at each end

_traceback = logging.Formatter().formatException


def bounded(record: logging.LogRecord) -> bool:
    """A filter that passes every record, and shortens its message and its traceback: both may quote
    what a client sent."""
    record.msg, record.args = shortened(record.getMessage()), None
    if record.exc_info:
        record.exc_text = shortened(_traceback(record.exc_info))
        record.exc_info = None
    return True


def shortened(text: str) -> str:
    left_out = len(text) - 2 * END
    if left_out <= 0:
        return text
    return f"{text[:END]} … {left_out} characters … {text[-END:]}"
