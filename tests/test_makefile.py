"""make leaves nothing behind, and installs nothing for the whole system unannounced."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.browser import chromium
from tests.conftest import ROOT


def test_clean_removes_all_that_git_ignores_but_keys(tmp_path: Path) -> None:
    shutil.copy(ROOT / "Makefile", tmp_path)
    web = tmp_path / "requirements" / "web"
    names = (ROOT / ".gitignore").read_text().split()
    ignored = [(web if name == "node_modules" else tmp_path) / name for name in names]
    for path in ignored:
        (path / "folder").mkdir(parents=True)
    subprocess.run(["make", "-C", tmp_path, "clean"], check=True, stdout=subprocess.DEVNULL)
    assert [path for path in ignored if path.exists()] == [tmp_path / "tls"]


def install(path: Path, **environment: str) -> str:
    """The output of the installation; programs are those in the folder `path`."""
    done = subprocess.run(
        [sys.executable, chromium.__file__, "--install"],
        env={"HOME": str(path), "PATH": str(path), **environment},
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    return done.stdout


def test_a_named_browser_that_is_missing_is_not_installed(tmp_path: Path) -> None:
    [line] = install(tmp_path, CHROMIUM="/missing").splitlines()
    assert line.startswith("Chromium: none")


@pytest.mark.skipif(not chromium._on_debian(), reason="another system installs for its user alone")
def test_an_installation_for_the_whole_system_is_announced(tmp_path: Path) -> None:
    browser, said = tmp_path / "chromium", tmp_path / "said"
    for name, script in {
        "sudo": 'shift; exec "$@"',
        "apt-get": f'echo "$@" >> {said}; /bin/cp "$0" {browser}',
    }.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{script}\n")
        (tmp_path / name).chmod(0o755)
    lines = install(tmp_path).splitlines()
    assert "for the whole system" in lines[1] and lines[1].endswith("install chromium")
    assert lines[-1] == f"Chromium: {browser}"
    assert "install -y" in said.read_text()
