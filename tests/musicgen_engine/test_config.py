"""What config.pbtxt says of a model's place is taken, or refused by name."""

import json
import re
from dataclasses import asdict, fields
from pathlib import Path

import pytest
from google.protobuf import text_format
from tritonclient.grpc.model_config_pb2 import ModelConfig

from musicgen_engine.config import OTHERS, Placement

ROOT = Path(__file__).parents[2]


def test_nothing_said_is_the_default() -> None:
    assert Placement.of({}) == Placement("auto", "auto", 0.5, True)


@pytest.mark.parametrize("device", ["auto", "cpu", "cuda", "cuda:0", "cuda:15"])
def test_devices_are_called_as_torch_calls_them(device: str) -> None:
    assert Placement.of({"device": device}).device == device


@pytest.mark.parametrize("precision", ["auto", "float32", "float16", "bfloat16"])
def test_precisions_are_called_as_torch_calls_them(precision: str) -> None:
    assert Placement.of({"precision": precision}).precision == precision


@pytest.mark.parametrize("share", [0.01, 0.9, 1])
def test_memory_is_a_share(share: float) -> None:
    assert Placement.of({"memory": str(share)}).memory == share


def test_packing_can_be_turned_off() -> None:
    assert Placement.of({"packed": "true"}) == Placement()
    assert not Placement.of({"packed": "false"}).packed


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("device", "gpu"),
        ("device", "cuda:"),
        ("device", "cuda:-1"),
        ("device", "cpu\n"),
        ("device", ""),
        ("precision", "fp16"),
        ("memory", "0"),
        ("memory", "-0.5"),
        ("memory", "1.01"),
        ("memory", "50%"),
        ("memory", "nan"),
        ("memory", "inf"),
        ("packed", "no"),
    ],
)
def test_what_is_wrong_is_named_with_its_value_and_the_remedy(name: str, value: str) -> None:
    with pytest.raises(ValueError, match=re.escape(f"{name} of config.pbtxt, {value!r}")) as caught:
        Placement.of({name: value})
    assert ": give " in str(caught.value)


@pytest.mark.parametrize("name", ["Device", "devise", "memory_share", "max_queue", ""])
def test_a_slip_of_the_pen_is_not_passed_over(name: str) -> None:
    with pytest.raises(ValueError, match=f"no parameter {name!r}; there are .*device"):
        Placement.of({name: "1"})


def test_parameters_of_triton_and_of_the_repository_are_left_alone() -> None:
    theirs = {"EXECUTION_ENV_PATH": "/env.tar.gz", "FORCE_CPU_ONLY_INPUT_TENSORS": "no"}
    ours = {
        "checkpoint": "facebook/musicgen-small",
        "license": "MIT",
        "size": "300M",
        "channels": "mono",
    }
    assert Placement.of({**theirs, **ours}) == Placement()


def test_the_engine_process_gets_it_whole() -> None:
    placement = Placement.of({"device": "cuda:1", "memory": "0.3", "packed": "false"})
    assert Placement(**json.loads(json.dumps(asdict(placement)))) == placement


def test_every_model_of_the_repository_is_understood() -> None:
    for config in (ROOT / "model_repository").glob("*/config.pbtxt"):
        parameters = text_format.Parse(config.read_text(), ModelConfig()).parameters
        Placement.of({name: value.string_value for name, value in parameters.items()})


def test_every_parameter_is_documented() -> None:
    document = (ROOT / "docs" / "configuration.md").read_text()
    for name in [*OTHERS, *(field.name for field in fields(Placement))]:
        assert f"| `{name}` |" in document
