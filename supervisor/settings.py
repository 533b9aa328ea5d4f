"""Where Triton listens and which models it serves, from environment variables."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

PROJECT = Path(__file__).resolve().parent.parent


@dataclass(frozen=True)
class TritonSettings:
    http_port: int = 8100
    grpc_port: int = 8101
    metrics_port: int = 8102
    host: str = "127.0.0.1"
    model_repository: Path = PROJECT / "model_repository"

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> TritonSettings:
        """An absent or empty variable means its default.

        Raises:
            ValueError: names the variable, its value and what it takes.
        """

        def port(name: str, default: int) -> int:
            text = environment.get(name) or str(default)
            if text.isdecimal() and 0 < int(text) < 65536:
                return int(text)
            raise ValueError(f"{name}={text} is not a port: give a whole number from 1 to 65535")

        repository = Path(environment.get("MODEL_REPOSITORY") or cls.model_repository).absolute()
        if not repository.is_dir():
            raise ValueError(f"MODEL_REPOSITORY={repository} is not a folder of models")
        return cls(
            port("TRITON_HTTP_PORT", cls.http_port),
            port("TRITON_GRPC_PORT", cls.grpc_port),
            port("TRITON_METRICS_PORT", cls.metrics_port),
            environment.get("TRITON_HOST") or cls.host,
            repository,
        )

    @property
    def grpc_address(self) -> str:
        """The address for the gateway, which runs on the same machine."""
        host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(self.host, self.host)
        return f"{f'[{host}]' if ':' in host else host}:{self.grpc_port}"
