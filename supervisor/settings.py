"""Where Triton listens and which models it serves, from environment variables."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from musicgen_engine.config import ModelConfig
from musicgen_engine.config_file import read_parameters
from protocol.settings import Environment, SettingsError, wrong

PROJECT = Path(__file__).resolve().parent.parent


@dataclass(frozen=True)
class TritonSettings:
    """Without `http_port`, Triton has no HTTP: any page in a browser could send requests to it."""

    http_port: int | None = None
    grpc_port: int = 8101
    metrics_port: int = 8102
    host: str = "127.0.0.1"
    model_repository: Path = PROJECT / "model_repository"
    load_models: tuple[str, ...] = ()  # at each start of Triton
    tls: Path | None = None
    collector: str = ""  # of traces

    @classmethod
    def from_environment(cls, variables: Mapping[str, str]) -> TritonSettings:
        """Raises SettingsError."""
        environment = Environment(variables)
        http_port = None
        if environment.text("TRITON_HTTP_PORT"):
            http_port = environment.whole("TRITON_HTTP_PORT", 0, 1, 65535)
        folder = environment.text("MODEL_REPOSITORY", str(cls.model_repository))
        repository = Path(folder).absolute()
        if not os.access(repository, os.R_OK | os.X_OK) or not repository.is_dir():
            raise wrong("MODEL_REPOSITORY", folder, "a folder of models that may be read")
        models = environment.text("LOAD_MODELS")
        names = tuple(dict.fromkeys(models.replace(",", " ").split()))
        known = {config.parent.name for config in repository.glob("*/config.pbtxt")} - {"musicgen"}
        if not known.issuperset(names):
            some = " or ".join(sorted(known)[:2])
            raise wrong("LOAD_MODELS", models, f"models of MODEL_REPOSITORY, such as {some}")
        for name in names:
            _check(repository / name)
        return cls(
            http_port,
            environment.whole("TRITON_GRPC_PORT", cls.grpc_port, 1, 65535),
            environment.whole("TRITON_METRICS_PORT", cls.metrics_port, 1, 65535),
            environment.text("TRITON_HOST", cls.host),
            repository,
            names,
            environment.triton_tls(),
            environment.collector(),
        )

    @property
    def grpc_address(self) -> str:
        """The address for the gateway, which runs on the same machine."""
        host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(self.host, self.host)
        return f"{f'[{host}]' if ':' in host else host}:{self.grpc_port}"


def _check(model: Path) -> None:
    """Triton ends where it cannot load a model of LOAD_MODELS. Raises SettingsError."""
    try:
        ModelConfig.parse(read_parameters(model))
    except (OSError, ValueError) as error:
        raise SettingsError(f"LOAD_MODELS: {model.name} cannot be loaded: {error}") from None
