"""Where Triton listens and which models it serves, from environment variables."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from protocol.settings import Environment, SettingsError

PROJECT = Path(__file__).resolve().parent.parent


@dataclass(frozen=True)
class TritonSettings:
    http_port: int = 8100
    grpc_port: int = 8101
    metrics_port: int = 8102
    host: str = "127.0.0.1"
    model_repository: Path = PROJECT / "model_repository"

    @classmethod
    def from_environment(cls, variables: Mapping[str, str]) -> TritonSettings:
        """Raises SettingsError."""
        environment = Environment(variables)
        folder = environment.text("MODEL_REPOSITORY", str(cls.model_repository))
        repository = Path(folder).absolute()
        if not repository.is_dir():
            raise SettingsError(
                f"MODEL_REPOSITORY={folder!r} is wrong: set it to a folder of models"
            )
        return cls(
            environment.whole("TRITON_HTTP_PORT", cls.http_port, 1, 65535),
            environment.whole("TRITON_GRPC_PORT", cls.grpc_port, 1, 65535),
            environment.whole("TRITON_METRICS_PORT", cls.metrics_port, 1, 65535),
            environment.text("TRITON_HOST", cls.host),
            repository,
        )

    @property
    def grpc_address(self) -> str:
        """The address for the gateway, which runs on the same machine."""
        host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(self.host, self.host)
        return f"{f'[{host}]' if ':' in host else host}:{self.grpc_port}"
