"""Settings of stub and engine, from the environment."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import kernels
from protocol.settings import DEFAULT_MAX_DURATION, LOG_FORMATS, MAX_SECONDS, Environment


@dataclass(frozen=True)
class EngineSettings:
    max_duration: float = DEFAULT_MAX_DURATION  # seconds of one song
    max_queue: int = 32  # songs that may wait for a slot
    max_wait: float = 300.0  # seconds that a song may have to wait, as far as can be predicted
    memory_share: float = 0.5  # of the device, for a model whose config.pbtxt gives none
    log_format: str = LOG_FORMATS[0]
    collector: str = ""  # of traces

    @classmethod
    def from_environment(cls, variables: Mapping[str, str]) -> EngineSettings:
        """Raises ValueError, for a wrong KERNEL too."""
        kernels.chosen(variables)
        environment = Environment(variables)
        return cls(
            max_duration=environment.max_duration(),
            max_queue=environment.whole("MAX_QUEUE", cls.max_queue, low=0),
            max_wait=environment.seconds("MAX_WAIT", cls.max_wait, MAX_SECONDS),
            memory_share=environment.share("MEMORY_SHARE", cls.memory_share),
            log_format=environment.log_format(),
            collector=environment.collector(),
        )
