"""Where Triton listens, and what it serves: environment variables, parsed once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

PROJECT = Path(__file__).resolve().parent.parent


@dataclass(frozen=True)
class Settings:
    triton_http_port: int = 8100
    triton_grpc_port: int = 8101
    triton_metrics_port: int = 8102
    model_repository: Path = PROJECT / "model_repository"
    triton_host: str = "127.0.0.1"

    @classmethod
    def of(cls, environment: Mapping[str, str]) -> Settings:
        """Reads TRITON_HOST, TRITON_{HTTP,GRPC,METRICS}_PORT and MODEL_REPOSITORY.

        Raises:
            ValueError: names the variable, its value and what it takes.
        """
        repository = Path(environment.get("MODEL_REPOSITORY") or cls.model_repository).absolute()
        if not repository.is_dir():
            raise ValueError(f"MODEL_REPOSITORY={repository} is not a folder of models")
        return cls(
            _port(environment, "TRITON_HTTP_PORT", cls.triton_http_port),
            _port(environment, "TRITON_GRPC_PORT", cls.triton_grpc_port),
            _port(environment, "TRITON_METRICS_PORT", cls.triton_metrics_port),
            repository,
            environment.get("TRITON_HOST") or cls.triton_host,
        )

    @property
    def triton_grpc(self) -> str:
        """Where the gateway finds Triton."""
        everywhere = {"0.0.0.0": "127.0.0.1", "::": "::1"}
        host = everywhere.get(self.triton_host, self.triton_host)
        return f"{f'[{host}]' if ':' in host else host}:{self.triton_grpc_port}"


def _port(environment: Mapping[str, str], name: str, default: int) -> int:
    text = environment.get(name) or str(default)
    if text.isdecimal() and 0 < int(text) < 65536:
        return int(text)
    raise ValueError(f"{name}={text} is not a port: give a whole number from 1 to 65535")
