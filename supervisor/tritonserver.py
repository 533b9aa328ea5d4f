"""Triton: which server there is, its command line and its environment."""

from __future__ import annotations

import os
import shutil
import sys
import sysconfig
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from supervisor.preflight import libpython
from supervisor.settings import PROJECT, Settings

EXIT_SECONDS = 5  # for requests in flight when Triton is asked to stop
GPU = Path("/dev/nvidiactl")
# What only the gateway may do, by a header: load and unload models, map memory, write log files.
ADMIN = "model-repository,shared-memory,trace,logging:admin-key="
SECRETS = ("API_KEYS", "TRITON_ADMIN_KEY")  # the gateway's: no model needs them


@dataclass(frozen=True)
class TritonServer:
    """`backends` and `libraries` only where Triton does not find them by itself."""

    binary: Path
    backends: Path | None = None
    libraries: tuple[Path, ...] = ()

    @classmethod
    def find(cls) -> TritonServer:
        """The server on PATH (as in Triton's container), else the one in the wheel.

        Raises:
            ValueError: neither is there.
        """
        if found := shutil.which("tritonserver"):
            return cls(Path(found))
        wheel = Path(sysconfig.get_path("purelib"))
        binary = wheel / "pytriton" / "tritonserver" / "bin" / "tritonserver"
        if not binary.exists():
            raise ValueError("there is no tritonserver: install it with `make serve`")
        return cls._assemble(wheel, Path(sys.prefix) / "triton")

    @classmethod
    def _assemble(cls, wheel: Path, folder: Path) -> TritonServer:
        """Joins in `folder` what the wheel holds apart: the Python backend and this Python's stub.

        libpython lies there too, alone, so that Triton takes nothing else from its folder.
        """
        server = wheel / "pytriton" / "tritonserver"
        version = f"{sys.version_info.major}.{sys.version_info.minor}"
        backend, libraries = folder / "backends" / "python", folder / "lib"
        for file in (
            server / "backends" / "python" / "libtriton_python.so",
            server / "backends" / "python" / "triton_python_backend_utils.py",
            server / "python_backend_stubs" / version / "triton_python_backend_stub",
        ):
            _link(backend, file)
        if library := libpython():
            _link(libraries, Path(library))
        return cls(
            server / "bin" / "tritonserver",
            folder / "backends",
            (wheel / "nvidia_pytriton.libs", libraries),
        )

    def command(self, settings: Settings, shared_memory_prefix: str, admin_key: str) -> list[str]:
        command = [
            str(self.binary),
            f"--model-repository={settings.model_repository}",
            "--model-control-mode=explicit",
            "--load-model=musicgen",
            "--strict-readiness=false",  # one model that cannot play keeps none from playing
            f"--exit-timeout-secs={EXIT_SECONDS}",
            f"--backend-config=python,shm-region-prefix-name={shared_memory_prefix}",
            f"--http-restricted-api={ADMIN}{admin_key}",
            f"--grpc-restricted-protocol={ADMIN}{admin_key}",
            "--log-info=false",  # the models' own lines come by stderr
        ]
        for service, port in (
            ("http", settings.triton_http_port),
            ("grpc", settings.triton_grpc_port),
            ("metrics", settings.triton_metrics_port),
        ):
            command += [f"--{service}-address={settings.triton_host}", f"--{service}-port={port}"]
        if not GPU.exists():  # else it reports errors about each of these
            command += ["--allow-gpu-metrics=false", "--pinned-memory-pool-byte-size=0"]
        if self.backends:
            command.append(f"--backend-directory={self.backends}")
        return command

    def environment(self, inherited: Mapping[str, str]) -> dict[str, str]:
        """`inherited`, with the paths where the stubs find Python, its packages and our code, and
        without the gateway's secrets."""
        return {
            **{name: value for name, value in inherited.items() if name not in SECRETS},
            "PATH": _joined(Path(sys.executable).parent, inherited.get("PATH")),
            "PYTHONPATH": _joined(PROJECT, inherited.get("PYTHONPATH")),
            "LD_LIBRARY_PATH": _joined(*self.libraries, inherited.get("LD_LIBRARY_PATH")),
        }


def _link(folder: Path, file: Path) -> None:
    """Puts a link to `file` into `folder`; one that is right stays, for it may be in use."""
    folder.mkdir(parents=True, exist_ok=True)
    link = folder / file.name
    if not (link.is_symlink() and link.readlink() == file):
        link.unlink(missing_ok=True)
        link.symlink_to(file)


def _joined(*paths: Path | str | None) -> str:
    return os.pathsep.join(str(path) for path in paths if path)
