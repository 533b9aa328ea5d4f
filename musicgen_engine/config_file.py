"""The file of a Triton model that describes it."""

from __future__ import annotations

from pathlib import Path

from google.protobuf import text_format
from tritonclient.grpc.model_config_pb2 import ModelConfig


def read_parameters(model: Path) -> dict[str, str]:
    """The parameters in the config.pbtxt of a model's folder.

    Raises:
        OSError: the file cannot be read.
        ValueError: it is no text, or no configuration.
    """
    text = (model / "config.pbtxt").read_text("utf-8")
    try:
        config = text_format.Parse(text, ModelConfig())
    except text_format.ParseError as error:
        raise ValueError(str(error)) from None
    return {name: value.string_value for name, value in config.parameters.items()}
