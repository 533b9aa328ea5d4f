"""What the environment says, read once."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from gateway import logs
from gateway.access import Key, read_keys

T = TypeVar("T")

DEFAULT_PORTS = {"http": ":80", "https": ":443"}  # which an origin does not name


class SettingsError(ValueError):
    """One line that names the variable, its value and the remedy."""


@dataclass(frozen=True)
class Settings:
    """Durations are in seconds. The fields below `web` are no variables; tests make them short."""

    host: str = "127.0.0.1"
    port: int = 8001
    triton_grpc: str = "127.0.0.1:8101"
    default_model: str = ""
    max_duration: float = 300.0
    max_loaded_models: int = 2
    load_timeout: float = 600.0
    generate_timeout: float = 1800.0
    resume_timeout: float = 120.0
    drain_timeout: float = 30.0
    api_keys: tuple[Key, ...] = ()
    max_songs_per_key: int = 4
    cors_origins: tuple[str, ...] = ()
    triton_admin_key: str = field(default="", repr=False)
    log_format: str = logs.FORMATS[0]
    web: Path = Path(__file__).parent.parent / "web"
    silence_timeout: float = 10.0
    stall_timeout: float = 300.0
    heartbeat_interval: float = 15.0
    poll_interval: float = 0.25
    watch_interval: float = 2.0
    retry_interval: float = 30.0

    @property
    def url(self) -> str:
        """The page's address, for people."""
        local = self.host in ("127.0.0.1", "0.0.0.0", "::1", "::")
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"http://{'localhost' if local else host}:{self.port}"

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> Settings:
        """An absent or empty variable means its default. Raises `SettingsError`."""

        def read(name: str, default: T, parse: Callable[[str], T], remedy: str) -> T:
            text = environment.get(name, "").strip()
            if not text:
                return default
            try:
                return parse(text)
            except ValueError:
                raise SettingsError(f"{name}={text!r} is wrong: set it to {remedy}") from None

        seconds = "a number of seconds over 0"
        return cls(
            host=environment.get("HOST", "").strip() or cls.host,
            port=read("PORT", cls.port, _whole(1, 65535), "a whole number from 1 to 65535"),
            triton_grpc=read(
                "TRITON_GRPC",
                cls.triton_grpc,
                _matching(r"\S+:\d+"),
                "an address such as 127.0.0.1:8101",
            ),
            default_model=environment.get("DEFAULT_MODEL", "").strip(),
            max_duration=read(
                "MAX_DURATION", cls.max_duration, _number(3600), f"{seconds}, at most 3600"
            ),
            max_loaded_models=read(
                "MAX_LOADED_MODELS", cls.max_loaded_models, _whole(1), "a whole number from 1 up"
            ),
            load_timeout=read("LOAD_TIMEOUT", cls.load_timeout, _number(), seconds),
            generate_timeout=read("GENERATE_TIMEOUT", cls.generate_timeout, _number(), seconds),
            resume_timeout=read("RESUME_TIMEOUT", cls.resume_timeout, _number(), seconds),
            drain_timeout=read("DRAIN_TIMEOUT", cls.drain_timeout, _number(), seconds),
            api_keys=_keys(environment),
            max_songs_per_key=read(
                "MAX_SONGS_PER_KEY", cls.max_songs_per_key, _whole(1), "a whole number from 1 up"
            ),
            cors_origins=read(
                "CORS_ORIGINS",
                cls.cors_origins,
                _origins,
                "* or origins such as https://music.example, without a path",
            ),
            triton_admin_key=_admin_key(environment),
            log_format=read(
                "LOG_FORMAT",
                cls.log_format,
                _matching("|".join(logs.FORMATS)),
                " or ".join(logs.FORMATS),
            ),
        )


def _keys(environment: Mapping[str, str]) -> tuple[Key, ...]:
    secret = _secret(environment, "API_KEYS")
    if secret is None:
        return ()
    name, text = secret
    try:
        return read_keys(text)
    except ValueError as error:
        raise SettingsError(f"{name} is wrong: {error}") from None


def _admin_key(environment: Mapping[str, str]) -> str:
    name, text = _secret(environment, "TRITON_ADMIN_KEY") or ("", "")
    if name and not re.fullmatch(r"[A-Za-z0-9_-]{16,}", text):
        raise SettingsError(f"{name} is wrong: set it to 16 letters, digits, - and _ or more")
    return text


def _secret(environment: Mapping[str, str], variable: str) -> tuple[str, str] | None:
    """The variable's text, or that of the file which `<variable>_FILE` names, after what to call it
    in an error; None where neither is set."""
    file = f"{variable}_FILE"
    text, path = (environment.get(name, "").strip() for name in (variable, file))
    if text and path:
        raise SettingsError(f"{variable} and {file} are both set: set one of them")
    if not path:
        return (variable, text) if text else None
    name = f"{file}={path!r}"
    try:
        return name, Path(path).read_text("utf-8-sig").strip()
    except (OSError, ValueError):
        raise SettingsError(f"{name} is wrong: set it to a text file that I may read") from None


def _whole(least: int, most: float = math.inf) -> Callable[[str], int]:
    def parse(text: str) -> int:
        value = int(text)
        if not least <= value <= most:
            raise ValueError
        return value

    return parse


def _number(most: float = 1e9) -> Callable[[str], float]:
    def parse(text: str) -> float:
        value = float(text)
        if not 0 < value <= most:
            raise ValueError
        return value

    return parse


def _matching(pattern: str) -> Callable[[str], str]:
    def parse(text: str) -> str:
        if not re.fullmatch(pattern, text):
            raise ValueError
        return text

    return parse


def _origins(text: str) -> tuple[str, ...]:
    origins = tuple(text.replace(",", " ").split())
    if not (origins == ("*",) or all(map(_is_origin, origins))):
        raise ValueError
    return origins


def _is_origin(text: str) -> bool:
    """Whether a browser may send this, character by character."""
    if not re.fullmatch(
        r"[a-z][a-z\d+.-]*://[a-z\d.-]+(:\d+)?|[a-z]+://\[[\da-f:]+\](:\d+)?", text
    ):
        return False
    return not text.endswith(DEFAULT_PORTS.get(text.partition(":")[0], "/"))
