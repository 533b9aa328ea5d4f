"""A model declares its tensors, and names what is wrong in its config.pbtxt."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import tritonclient.http as triton_http
from tritonclient.utils import InferenceServerException

from tests.conftest import ADMIN, ROOT, Stack, gone, until
from tests.stack.client import SONG, TYPES, model_status, stream


def test_the_declared_tensors_are_those_of_the_documents(stack: Stack) -> None:
    with triton_http.InferenceServerClient(f"127.0.0.1:{stack.triton_http}") as client:
        variant = client.get_model_metadata("musicgen-tiny")
        front = client.get_model_metadata("musicgen")
    types = {tensor["name"]: tensor["datatype"] for tensor in variant["inputs"]}
    assert types == {name: kind for name, kind in TYPES.items() if name != "MODEL"}
    assert {t["name"] for t in front["inputs"]} == TYPES.keys() - {"STREAM", "CHANGE"}
    outputs = ["AUDIO", "CODES", "CHROMA", "TIMELINE", "SAMPLE_RATE", "FRAMES"]
    outputs += ["SEED", "REVISION", "STATUS"]
    assert [tensor["name"] for tensor in variant["outputs"]] == outputs
    assert front["outputs"] == variant["outputs"]
    document = (Path(__file__).parents[2] / "docs" / "triton.md").read_text()
    for name in [*TYPES, *outputs]:
        assert f"`{name}`" in document


def test_the_stub_never_imports_torch(stack: Stack) -> None:
    assert "libtorch" not in Path(f"/proc/{stack.stub()}/maps").read_text()
    assert "libtorch" in Path(f"/proc/{stack.engine()}/maps").read_text()


@contextmanager
def variant(stack: Stack, name: str, parameter: str, value: str) -> Iterator[Any]:
    """musicgen-tiny under another name with one more parameter; yields a client that loads it."""
    folder, tiny = stack.repository / name, ROOT / "model_repository" / "musicgen-tiny"
    folder.mkdir()
    (folder / "1").symlink_to(tiny / "1")
    line = f'parameters {{ key: "{parameter}" value {{ string_value: "{value}" }} }}\n'
    (folder / "config.pbtxt").write_text((tiny / "config.pbtxt").read_text() + line)
    with triton_http.InferenceServerClient(f"127.0.0.1:{stack.triton_http}") as client:
        client.infer("musicgen", [])  # lists the models, and sees a new folder
        try:
            yield client
        finally:
            client.unload_model(name, ADMIN)
            shutil.rmtree(folder)


@pytest.mark.parametrize(
    ("parameter", "value", "text"),
    [
        (
            "device",
            "gpu",
            "device of config.pbtxt, 'gpu', is wrong: give auto, cpu, cuda or cuda:N",
        ),
        (
            "backend",
            "fast",
            "backend of config.pbtxt, 'fast', is wrong: give auto, eager, packed, native or graph",
        ),
        (
            "devise",
            "cpu",
            "config.pbtxt has no parameter 'devise'; there are checkpoint, license, ",
        ),
    ],
)
def test_a_load_with_a_wrong_parameter_names_it(
    stack: Stack, parameter: str, value: str, text: str
) -> None:
    with variant(stack, "misplaced", parameter, value) as client:
        with pytest.raises(InferenceServerException) as caught:
            client.load_model("misplaced", ADMIN)
        assert text in caught.value.message()
        assert client.is_server_ready()  # for all other models


def test_a_model_that_does_not_fit_says_so(stack: Stack) -> None:
    with variant(stack, "homeless", "memory", "0.000001") as client:
        client.load_model("homeless", ADMIN)

        def failure() -> dict[str, Any] | None:
            status = model_status(stack, "homeless")
            return status if status["state"] == "failed" else None

        status = until(failure)
        assert status["code"] == "engine_unavailable"
        assert "raise `memory` in its config.pbtxt" in status["message"]
        (refused,) = stream(stack, "homeless", SONG)
        assert refused.message().startswith("[engine_unavailable] ")


def test_parameters_of_triton_are_ignored(stack: Stack) -> None:
    with variant(stack, "plain", "FORCE_CPU_ONLY_INPUT_TENSORS", "yes") as client:
        client.load_model("plain", ADMIN)
        assert model_status(stack, "plain")["state"] in ("loading", "ready")


def test_the_stub_of_an_unloaded_model_ends_without_a_crash(stack: Stack) -> None:
    tiny = ROOT / "model_repository" / "musicgen-tiny" / "1"
    with variant(stack, "traced", "checkpoint", str(tiny)) as client:
        folder = stack.repository / "traced" / "1"
        folder.unlink()
        folder.mkdir()
        trace = "import faulthandler\nfaulthandler.enable()\n"
        (folder / "model.py").write_text(trace + (tiny / "model.py").read_text())
        client.load_model("traced", ADMIN)
        until(lambda: model_status(stack, "traced")["state"] == "ready")
        stub = stack.stub("/traced/")
        client.unload_model("traced", ADMIN)
        until(lambda: gone(stub))
    assert "Fatal Python error" not in stack.log.read_text()
