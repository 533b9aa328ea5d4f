"""What the environment says, for stub and engine; a wrong value is one line."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

MAX_MAX_DURATION = 3600  # seconds


@dataclass(frozen=True)
class Settings:
    max_duration: float = 300.0  # seconds a song may last
    max_queue: int = 32  # songs that may wait for their turn

    @classmethod
    def of(cls, environment: Mapping[str, str]) -> Settings:
        """Reads MAX_DURATION and MAX_QUEUE; absent or empty means the default.

        Raises:
            ValueError: names the variable, its value and what it takes.
        """
        duration = environment.get("MAX_DURATION", "").strip() or cls.max_duration
        queue = environment.get("MAX_QUEUE", "").strip() or cls.max_queue
        try:
            max_duration = float(duration)
        except ValueError:
            max_duration = 0.0
        if not 0 < max_duration <= MAX_MAX_DURATION:
            limits = f"seconds, more than 0, at most {MAX_MAX_DURATION}"
            raise ValueError(f"MAX_DURATION={duration} is wrong: give {limits}")
        if not str(queue).isdecimal():
            raise ValueError(f"MAX_QUEUE={queue} is wrong: give a whole number")
        return cls(max_duration, int(queue))
