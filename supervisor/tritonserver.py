"""The tritonserver of this machine: its command line, its environment and its health."""

from __future__ import annotations

import os
import shutil
import sys
import sysconfig
import time
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import grpc.aio
from tritonclient.grpc.service_pb2 import ModelInferRequest, RepositoryIndexRequest
from tritonclient.grpc.service_pb2_grpc import GRPCInferenceServiceStub

from musicgen_engine.settings import EngineSettings
from protocol import channel
from protocol.tracing import HEADER
from supervisor import shared_memory
from supervisor.log_filter import stderr_without
from supervisor.preflight import libpython
from supervisor.process import Process
from supervisor.settings import PROJECT, TritonSettings
from supervisor.supervision import log

EXIT_TIMEOUT = 5  # seconds that requests have left when Triton stops
HEALTH = "/grpc.health.v1.Health/Check"  # its request and its response are empty or short
HEALTH_TIMEOUT = 2.0  # seconds
LOAD_TIMEOUT = 45.0  # seconds for a stub to start; the engine loads the weights after that
GPU = Path("/dev/nvidiactl")
NO_GPU = (
    b"CudaDriverHelper has not been initialized"  # an error for Triton, which no option prevents
)
# Protocols for the gateway alone, by a header: load models, map memory, write log files.
ADMIN = "model-repository,shared-memory,trace,logging:admin-key="
SECRETS = ("API_KEYS", "TRITON_ADMIN_KEY")  # the gateway's, which no model needs


@dataclass(frozen=True)
class TritonServer:
    """`backends` and `libraries` are set where Triton does not find them by itself."""

    binary: Path
    backends: Path | None = None
    libraries: tuple[Path, ...] = ()

    @classmethod
    def find(cls) -> TritonServer:
        """The server on PATH (as in Triton's container), else the one in the wheel.

        Raises:
            ValueError: there is neither.
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
        """Links the wheel's Python backend and the stub of this Python into one `folder`.

        libpython gets a link too, so that Triton loads nothing else from libpython's own folder.
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

    def command(self, settings: TritonSettings, admin_key: str) -> list[str]:
        command = [
            str(self.binary),
            f"--model-repository={shared_memory.models()}",
            "--model-control-mode=explicit",
            *(f"--load-model={name}" for name in ("musicgen", *settings.load_models)),
            "--strict-readiness=false",  # ready although a model failed to load
            f"--exit-timeout-secs={EXIT_TIMEOUT}",
            f"--backend-config=python,shm-region-prefix-name={shared_memory.prefix()}",
            f"--http-restricted-api={ADMIN}{admin_key}",
            f"--grpc-restricted-protocol={ADMIN}{admin_key}",
            *(f"--{service}-header-forward-pattern={HEADER}" for service in ("grpc", "http")),
            "--log-info=false",  # the models log to stderr themselves
        ]
        for service, port in (
            ("http", settings.http_port),
            ("grpc", settings.grpc_port),
            ("metrics", settings.metrics_port),
        ):
            if port is None:
                command.append(f"--allow-{service}=false")
            else:
                host = settings.host
                if ":" in host:  # IPv6, which gRPC and libevent write each in its own way
                    host = f"[{host}]" if service == "grpc" else f"ipv6:{host}"
                command += [f"--{service}-address={host}", f"--{service}-port={port}"]
        if settings.tls:
            command += [
                "--grpc-use-ssl-mutual=true",
                f"--grpc-root-cert={settings.tls / 'ca.crt'}",
                f"--grpc-server-key={settings.tls / 'tls.key'}",
                f"--grpc-server-cert={settings.tls / 'tls.crt'}",
            ]
        if settings.collector:
            options = (
                "mode=opentelemetry",
                f"opentelemetry,url={settings.collector.rstrip('/')}/v1/traces",
                "level=TIMESTAMPS",
                "rate=0",  # only requests that are part of a caller's trace
            )
            command += [f"--trace-config={option}" for option in options]
        if not GPU.exists():  # prevents an error line about each
            command += ["--allow-gpu-metrics=false", "--pinned-memory-pool-byte-size=0"]
        if self.backends:
            command.append(f"--backend-directory={self.backends}")
        return command

    def environment(self, settings: TritonSettings, inherited: Mapping[str, str]) -> dict[str, str]:
        """`inherited` without the gateway's secrets, and with this Python and our code first."""
        return {
            **{name: value for name, value in inherited.items() if name not in SECRETS},
            "MODEL_REPOSITORY": str(settings.model_repository),
            "PATH": _joined(Path(sys.executable).parent, inherited.get("PATH")),
            "PYTHONPATH": _joined(PROJECT, inherited.get("PYTHONPATH")),
            "LD_LIBRARY_PATH": _joined(*self.libraries, inherited.get("LD_LIBRARY_PATH")),
        }


def check(environment: Mapping[str, str]) -> tuple[TritonServer, TritonSettings]:
    """The server and its settings; checks those of the stubs too, before a stub refuses them.

    Raises:
        ValueError: names the variable, its value and what it takes, or what is missing.
    """
    shared_memory.check()
    EngineSettings.from_environment(environment)
    return TritonServer.find(), TritonSettings.from_environment(environment)


def process(
    server: TritonServer, settings: TritonSettings, admin_key: str, environment: Mapping[str, str]
) -> Process:
    live = Liveness(settings, admin_key)

    def prepare() -> None:
        live.read_certificate()  # Triton reads it at its start
        shared_memory.prepare(settings.model_repository / name for name in settings.load_models)

    return Process(
        "Triton",
        server.command(settings, admin_key),
        server.environment(settings, environment),
        log,
        is_live=live,
        on_start=prepare,
        on_exit=shared_memory.clean,
        stderr=None if GPU.exists() else stderr_without(NO_GPU),
    )


class Liveness:
    """Whether the server answers over gRPC, no model has been loading for LOAD_TIMEOUT, and the
    stubs of the models in LOAD_MODELS answer.

    A server that is told to end says no, and may never end. One whose stub dies while it loads
    waits for that stub for ever. Triton starts no dead stub again: a gateway loads the model
    again, but not where it has several servers, which load LOAD_MODELS at their start.
    """

    def __init__(self, settings: TritonSettings, admin_key: str) -> None:
        self._settings = settings
        self._key = ((channel.ADMIN_KEY, admin_key),)
        self._loading_since: dict[str, float] = {}
        self._credentials: grpc.ChannelCredentials | None = None

    def read_certificate(self) -> None:
        """Before each start. The files may be replaced while the server uses what it has read."""
        self._credentials = channel.credentials(self._settings.tls)

    async def __call__(self) -> bool:
        async with self._connection() as connection:
            triton = GRPCInferenceServiceStub(connection)
            try:
                await connection.unary_unary(HEALTH)(b"", timeout=HEALTH_TIMEOUT)
                index = await triton.RepositoryIndex(
                    RepositoryIndexRequest(), metadata=self._key, timeout=HEALTH_TIMEOUT
                )
                ready = {model.name for model in index.models if model.state == "READY"}
                for model in ready.intersection(self._settings.load_models):
                    if not await _answers(triton, model):
                        return False
            except grpc.aio.AioRpcError:
                return False
        now = time.monotonic()
        loading = [model.name for model in index.models if model.state == "LOADING"]
        self._loading_since = {name: self._loading_since.get(name, now) for name in loading}
        return all(now - since < LOAD_TIMEOUT for since in self._loading_since.values())

    def _connection(self) -> grpc.aio.Channel:
        address = self._settings.grpc_address
        if self._credentials is None:
            return grpc.aio.insecure_channel(address, channel.OPTIONS)
        return grpc.aio.secure_channel(address, self._credentials, channel.OPTIONS)


async def _answers(triton: GRPCInferenceServiceStub, model: str) -> bool:
    """Whether the model's stub tells its status. Raises AioRpcError."""

    async def request() -> AsyncIterator[ModelInferRequest]:
        yield ModelInferRequest(model_name=model)

    stream = triton.ModelStreamInfer(request(), timeout=HEALTH_TIMEOUT)
    answers = [answer async for answer in stream]
    return bool(answers) and not any(answer.error_message for answer in answers)


def _link(folder: Path, file: Path) -> None:
    """Links `file` into `folder`; keeps a link that is right, because it may be in use."""
    folder.mkdir(parents=True, exist_ok=True)
    link = folder / file.name
    if not (link.is_symlink() and link.readlink() == file):
        link.unlink(missing_ok=True)
        link.symlink_to(file)


def _joined(*paths: Path | str | None) -> str:
    return os.pathsep.join(str(path) for path in paths if path)
