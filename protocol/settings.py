"""Settings from the environment's variables. An absent or empty variable means its default."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from pathlib import Path

from protocol import tls

LOG_FORMATS = ("text", "json")
DEFAULT_MAX_DURATION = 300.0  # seconds
MAX_SECONDS = 3_600.0  # the longest song that a service can allow


class SettingsError(ValueError):
    """One line that names the variable, its value and the remedy."""


class Environment:
    """Reads variables; each method raises SettingsError for a wrong value."""

    def __init__(self, variables: Mapping[str, str]) -> None:
        self._variables = variables

    def text(self, name: str, default: str = "", pattern: str = "", remedy: str = "") -> str:
        text = self._variables.get(name, "").strip()
        if text and pattern and not re.fullmatch(pattern, text):
            raise wrong(name, text, remedy)
        return text or default

    def whole(self, name: str, default: int, low: int, high: int | None = None) -> int:
        text = self.text(name)
        limits = f"from {low} up" if high is None else f"from {low} to {high}"
        remedy = f"a whole number {limits}"
        try:
            value = int(text or default)
        except ValueError:
            raise wrong(name, text, remedy) from None
        if not low <= value <= (math.inf if high is None else high):
            raise wrong(name, text, remedy)
        return value

    def seconds(self, name: str, default: float, high: float = 1e9) -> float:
        limit = f", at most {high:g}" if high < 1e9 else ""
        return self._positive(name, default, high, f"a number of seconds over 0{limit}")

    def share(self, name: str, default: float) -> float:
        return self._positive(name, default, 1.0, "a share, more than 0, at most 1")

    def _positive(self, name: str, default: float, high: float, remedy: str) -> float:
        text = self.text(name)
        try:
            value = float(text or default)
        except ValueError:
            raise wrong(name, text, remedy) from None
        if not 0 < value <= high:
            raise wrong(name, text, remedy)
        return value

    def secret(self, name: str) -> tuple[str, str] | None:
        """The variable's text, or the text of the file that `<name>_FILE` names, with what an error
        calls it; None where neither is set."""
        file = f"{name}_FILE"
        text, path = self.text(name), self.text(file)
        if text and path:
            raise SettingsError(f"{name} and {file} are both set: set one of them")
        if not path:
            return (name, text) if text else None
        try:
            return f"{file}={path!r}", Path(path).read_text("utf-8-sig").strip()
        except (OSError, ValueError):
            raise wrong(file, path, "a text file that the service may read") from None

    def admin_key(self) -> str:
        """The key of Triton's model control; empty where none is set."""
        name, text = self.secret("TRITON_ADMIN_KEY") or ("", "")
        if name and not re.fullmatch(r"[A-Za-z0-9_-]{16,}", text):
            raise SettingsError(f"{name} is wrong: set it to 16 letters, digits, - and _ or more")
        return text

    def triton_tls(self) -> Path | None:
        """The folder with the certificate for the TLS between gateway and Triton."""
        text = self.text("TRITON_TLS")
        if not text:
            return None
        folder = Path(text).absolute()
        try:
            tls.check(folder)
        except OSError as error:
            files = ", ".join(tls.FILES)
            reason = getattr(error, "verify_message", None) or error.strerror
            remedy = f"a folder with {files}, for the name {tls.NAME!r} ({reason})"
            raise wrong("TRITON_TLS", text, remedy) from None
        return folder

    def max_duration(self) -> float:
        return self.seconds("MAX_DURATION", DEFAULT_MAX_DURATION, MAX_SECONDS)

    def collector(self) -> str:
        """The address of an OpenTelemetry collector; empty where there is none."""
        remedy = "the address of a collector, such as http://localhost:4318"
        return self.text("OTEL_EXPORTER_OTLP_ENDPOINT", "", r"https?://[^\s/]+/?", remedy)

    def log_format(self) -> str:
        remedy = " or ".join(LOG_FORMATS)
        return self.text("LOG_FORMAT", LOG_FORMATS[0], "|".join(LOG_FORMATS), remedy)


def wrong(name: str, text: str, remedy: str) -> SettingsError:
    """The error for a variable whose value is `text`, which is no secret."""
    return SettingsError(f"{name}={text!r} is wrong: set it to {remedy}")
