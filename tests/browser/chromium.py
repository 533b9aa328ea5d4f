"""The Chromium that the browser tests drive: `python tests/browser/chromium.py --install`.

It finds one, or installs one where it may. Where it cannot, it says so and does not fail.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

NAMES = ("chromium", "chromium-browser", "google-chrome")
MISSING = "no Chromium found: install one, or name one with CHROMIUM=/path/to/it"


def find() -> str | None:
    """The path of $CHROMIUM, else of a browser on PATH, else of Playwright's own."""
    if chosen := os.environ.get("CHROMIUM"):
        return shutil.which(chosen)
    for name in NAMES:
        if path := shutil.which(name):
            return path
    cache = os.environ.get("PLAYWRIGHT_BROWSERS_PATH") or Path.home() / ".cache" / "ms-playwright"
    own = sorted(Path(cache).glob("chromium-*/chrome-linux*/chrome"))
    return str(own[-1]) if own else None


def install() -> None:
    """Install Debian's package where that is allowed, else Playwright's build."""
    print("The browser tests need Chromium. CHROMIUM=/path names one; then nothing is installed.")
    root = [] if os.geteuid() == 0 else ["sudo", "-n"]
    apt = [*root, "apt-get", "-qq", "-o", "DPkg::Lock::Timeout=300"]
    if _on_debian():
        print(
            "Installing Debian's package for the whole system:",
            *apt,
            "install chromium",
            flush=True,
        )
        if _run(*apt, "update"):
            _run(*apt, "install", "-y", "--no-install-recommends", "chromium")
    if not find():
        print("Installing Playwright's Chromium for this user", flush=True)
        _run(sys.executable, "-m", "playwright", "install", "chromium")


def _on_debian() -> bool:
    """Whether this is Debian; Ubuntu's package of that name only asks for a snap."""
    release = Path("/etc/os-release")
    return release.exists() and "\nID=debian\n" in release.read_text()


def _run(*command: str) -> bool:
    """Whether the command succeeded; if not, show its output."""
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    try:
        result = subprocess.run(
            command,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
    except FileNotFoundError:
        return False
    if result.returncode:
        print(f"{' '.join(command)} failed:", result.stdout.strip()[-1000:], sep="\n")
    return result.returncode == 0


if __name__ == "__main__":
    if sys.argv[1:] == ["--install"] and not find() and "CHROMIUM" not in os.environ:
        install()
    print("Chromium:", find() or "none; install one, or name one with CHROMIUM=/path/to/it")
