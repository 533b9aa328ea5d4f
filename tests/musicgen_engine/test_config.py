"""The parameters of config.pbtxt are read, or refused by name."""

import json
import re
from dataclasses import asdict, fields

import pytest
from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2

from musicgen_engine.config import CHOICES, DESCRIPTIVE, ModelConfig
from musicgen_engine.model.backend_loader import BACKENDS
from tests.conftest import ROOT


def test_an_absent_parameter_means_its_default() -> None:
    assert ModelConfig.parse({}) == ModelConfig("auto", "auto", 0.5, "auto")


@pytest.mark.parametrize("device", ["auto", "cpu", "cuda", "cuda:0", "cuda:15"])
def test_devices_are_called_as_torch_calls_them(device: str) -> None:
    assert ModelConfig.parse({"device": device}).device == device


def test_devices_are_all_gpus() -> None:
    assert ModelConfig.parse({"devices": "all"}).device == "all"


def test_device_and_devices_exclude_each_other() -> None:
    with pytest.raises(ValueError, match="has device: cuda:1 and devices: all; leave one out"):
        ModelConfig.parse({"device": "cuda:1", "devices": "all"})


@pytest.mark.parametrize("precision", ["auto", "float32", "float16", "bfloat16"])
def test_precisions_are_called_as_torch_calls_them(precision: str) -> None:
    assert ModelConfig.parse({"precision": precision}).precision == precision


@pytest.mark.parametrize("share", [0.01, 0.9, 1])
def test_memory_is_a_share(share: float) -> None:
    assert ModelConfig.parse({"memory": str(share)}).memory == share


def test_a_model_s_own_share_is_before_that_of_the_service() -> None:
    assert ModelConfig.parse({}, memory=0.9).memory == 0.9
    assert ModelConfig.parse({"memory": "0.3"}, memory=0.9).memory == 0.3


@pytest.mark.parametrize("backend", ["auto", *BACKENDS])
def test_every_backend_can_be_chosen(backend: str) -> None:
    assert ModelConfig.parse({"backend": backend}).backend == backend


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("device", "gpu"),
        ("device", "cuda:"),
        ("device", "cuda:-1"),
        ("device", "cpu\n"),
        ("device", ""),
        ("device", "all"),
        ("devices", "2"),
        ("devices", "cuda:0,cuda:1"),
        ("precision", "fp16"),
        ("memory", "0"),
        ("memory", "-0.5"),
        ("memory", "1.01"),
        ("memory", "50%"),
        ("memory", "nan"),
        ("memory", "inf"),
        ("backend", "fast"),
        ("backend", ""),
    ],
)
def test_an_error_names_parameter_value_and_remedy(name: str, value: str) -> None:
    with pytest.raises(ValueError, match=re.escape(f"{name} of config.pbtxt, {value!r}")) as caught:
        ModelConfig.parse({name: value})
    assert ": give " in str(caught.value)


@pytest.mark.parametrize("name", ["Device", "devise", "memory_share", "max_queue", "packed", ""])
def test_an_unknown_parameter_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match=f"no parameter {name!r}; there are .*device"):
        ModelConfig.parse({name: "1"})


def test_parameters_of_triton_are_left_alone() -> None:
    theirs = {"EXECUTION_ENV_PATH": "/env.tar.gz", "FORCE_CPU_ONLY_INPUT_TENSORS": "no"}
    ours = {
        "checkpoint": "facebook/musicgen-small",
        "license": "MIT",
        "size": "300M",
        "channels": "mono",
    }
    assert ModelConfig.parse({**theirs, **ours}) == ModelConfig()


def test_a_config_survives_as_json() -> None:
    config = ModelConfig.parse({"device": "cuda:1", "memory": "0.3", "backend": "eager"})
    assert ModelConfig(**json.loads(json.dumps(asdict(config)))) == config


def test_every_model_of_the_repository_can_be_read() -> None:
    for config in (ROOT / "model_repository").glob("*/config.pbtxt"):
        parameters = text_format.Parse(
            config.read_text(), model_config_pb2.ModelConfig()
        ).parameters
        ModelConfig.parse({name: value.string_value for name, value in parameters.items()})


def test_every_parameter_is_documented() -> None:
    document = (ROOT / "docs" / "configuration.md").read_text()
    for name in {*DESCRIPTIVE, *CHOICES, *(field.name for field in fields(ModelConfig))}:
        assert f"| `{name}` |" in document
