"""The settings of the gateway, from the environment's variables."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

from gateway.access import Key, read_keys
from protocol.settings import DEFAULT_MAX_DURATION, LOG_FORMATS, Environment, SettingsError, wrong

Address: TypeAlias = tuple[str, int]  # host and port
LABEL = r"[A-Za-z0-9_-]{1,63}"  # of a name
ADDRESS = rf"({LABEL}(?:\.{LABEL})*\.?|\[[\da-f:]+\]):([0-9]{{1,5}})"

DEFAULT_PORTS = {"http": ":80", "https": ":443"}  # an origin does not contain them


@dataclass(frozen=True)
class GatewaySettings:
    """Durations are in seconds. No variable sets `web` and the fields below; tests do."""

    host: str = "127.0.0.1"
    port: int = 8001
    triton_grpc: str = "127.0.0.1:8101"
    default_model: str = ""
    max_duration: float = DEFAULT_MAX_DURATION
    max_loaded_models: int = 2
    load_timeout: float = 600.0
    generate_timeout: float = 1800.0
    resume_timeout: float = 120.0
    drain_timeout: float = 30.0
    api_keys: tuple[Key, ...] = ()
    max_songs_per_key: int = 4
    cors_origins: tuple[str, ...] = ()
    triton_admin_key: str = field(default="", repr=False)
    log_format: str = LOG_FORMATS[0]
    triton_pools: Mapping[str, tuple[Address, ...]] = field(default_factory=dict)  # by model
    triton_tls: Path | None = None
    collector: str = ""  # of traces
    web: Path = Path(__file__).parent.parent / "web"
    silence_timeout: float = 10.0
    stall_timeout: float = 300.0
    pace_interval: float = 10.0
    heartbeat_interval: float = 15.0
    poll_interval: float = 0.25
    resolve_interval: float = 5.0
    survey_interval: float = 1.0
    watch_interval: float = 2.0
    retry_interval: float = 30.0

    @property
    def url(self) -> str:
        """The page's address, for people."""
        local = self.host in ("127.0.0.1", "0.0.0.0", "::1", "::")
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"http://{'localhost' if local else host}:{self.port}"

    @classmethod
    def from_environment(cls, variables: Mapping[str, str]) -> GatewaySettings:
        """Read the variables. Raise `SettingsError` for a wrong one."""
        env, address = Environment(variables), "an address such as 127.0.0.1:8101"
        pools = _pools(env)
        return cls(
            host=env.text("HOST", cls.host),
            port=env.whole("PORT", cls.port, 1, 65535),
            triton_grpc=env.text("TRITON_GRPC", cls.triton_grpc, r"\S+:\d+", address),
            default_model=env.text("DEFAULT_MODEL", next(iter(pools), "")),
            max_duration=env.max_duration(),
            max_loaded_models=env.whole("MAX_LOADED_MODELS", cls.max_loaded_models, 1),
            load_timeout=env.seconds("LOAD_TIMEOUT", cls.load_timeout),
            generate_timeout=env.seconds("GENERATE_TIMEOUT", cls.generate_timeout),
            resume_timeout=env.seconds("RESUME_TIMEOUT", cls.resume_timeout),
            drain_timeout=env.seconds("DRAIN_TIMEOUT", cls.drain_timeout),
            api_keys=_keys(env),
            max_songs_per_key=env.whole("MAX_SONGS_PER_KEY", cls.max_songs_per_key, 1),
            cors_origins=_origins(env),
            triton_admin_key=env.admin_key(),
            log_format=env.log_format(),
            triton_pools=pools,
            triton_tls=env.triton_tls(),
            collector=env.collector(),
        )


def _pools(env: Environment) -> dict[str, tuple[Address, ...]]:
    """Such as `musicgen-small=small-pods:8101 musicgen-large=one:8101,two:8101`."""
    text = env.text("TRITON_POOLS")
    if text and env.text("TRITON_GRPC"):
        raise SettingsError("TRITON_GRPC and TRITON_POOLS are both set: set one of them")
    pools: dict[str, tuple[Address, ...]] = {}
    for pool in text.split():
        model, _, addresses = pool.partition("=")
        found = [re.fullmatch(ADDRESS, address) for address in addresses.split(",")]
        good = [(match[1].strip("[]"), int(match[2])) for match in found if match]
        ports = all(1 <= port <= 65535 for _, port in good)
        if not model or model in pools or len(good) < len(found) or not ports:
            remedy = "one MODEL=HOST:PORT for each model, separated by spaces"
            raise wrong("TRITON_POOLS", text, remedy)
        pools[model] = tuple(good)
    return pools


def _keys(env: Environment) -> tuple[Key, ...]:
    secret = env.secret("API_KEYS")
    if secret is None:
        return ()
    name, text = secret
    try:
        return read_keys(text)
    except ValueError as error:
        raise SettingsError(f"{name} is wrong: {error}") from None


def _origins(env: Environment) -> tuple[str, ...]:
    text = env.text("CORS_ORIGINS")
    origins = tuple(text.replace(",", " ").split())
    if text and not (origins == ("*",) or all(map(_is_origin, origins))):
        remedy = "* or origins such as https://music.example, without a path"
        raise wrong("CORS_ORIGINS", text, remedy)
    return origins


def _is_origin(text: str) -> bool:
    """Whether a browser may send this Origin, character by character."""
    if not re.fullmatch(
        r"[a-z][a-z\d+.-]*://[a-z\d.-]+(:\d+)?|[a-z]+://\[[\da-f:]+\](:\d+)?", text
    ):
        return False
    return not text.endswith(DEFAULT_PORTS.get(text.partition(":")[0], "/"))
