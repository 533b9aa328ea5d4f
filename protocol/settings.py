"""What the environment says, for stub and engine; a wrong value is one line."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

MAX_SECONDS = 3600
LOG_FORMATS = ("text", "json")


@dataclass(frozen=True)
class Settings:
    max_duration: float = 300.0  # seconds a song may last
    max_queue: int = 32  # songs that may wait for their turn
    max_wait: float = 300.0  # seconds that a song may have to wait, as far as can be told
    log_format: str = LOG_FORMATS[0]

    @classmethod
    def of(cls, environment: Mapping[str, str]) -> Settings:
        """Reads MAX_DURATION, MAX_QUEUE, MAX_WAIT, LOG_FORMAT. Absent or empty means the default.

        Raises:
            ValueError: names the variable, its value and what it takes.
        """
        queue = environment.get("MAX_QUEUE", "").strip() or cls.max_queue
        max_duration = _seconds(environment, "MAX_DURATION", cls.max_duration)
        max_wait = _seconds(environment, "MAX_WAIT", cls.max_wait)
        if not str(queue).isdecimal():
            raise ValueError(f"MAX_QUEUE={queue} is wrong: give a whole number")
        log_format = environment.get("LOG_FORMAT", "").strip() or cls.log_format
        if log_format not in LOG_FORMATS:
            raise ValueError(f"LOG_FORMAT={log_format} is wrong: give {' or '.join(LOG_FORMATS)}")
        return cls(max_duration, int(queue), max_wait, log_format)


def _seconds(environment: Mapping[str, str], name: str, default: float) -> float:
    text = environment.get(name, "").strip() or str(default)
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value <= MAX_SECONDS:
        limits = f"seconds, more than 0, at most {MAX_SECONDS}"
        raise ValueError(f"{name}={text} is wrong: give {limits}")
    return value
