from pathlib import Path

import pytest

from supervisor.settings import TritonSettings


def test_defaults_hold_without_variables() -> None:
    settings = TritonSettings.from_environment({})
    assert settings == TritonSettings()
    assert settings.model_repository.name == "model_repository"


def test_variables_override_defaults(tmp_path: Path) -> None:
    environment = {"TRITON_HOST": "::1", "TRITON_GRPC_PORT": "81"}
    environment["MODEL_REPOSITORY"] = str(tmp_path)
    settings = TritonSettings.from_environment(environment)
    assert (settings.grpc_address, settings.model_repository) == ("[::1]:81", tmp_path)


def test_an_empty_variable_means_the_default() -> None:
    empty = {"TRITON_HTTP_PORT": "", "TRITON_HOST": "", "MODEL_REPOSITORY": ""}
    assert TritonSettings.from_environment(empty) == TritonSettings()


@pytest.mark.parametrize("value", ["http", "0", "65536", "-1", "80.5", "²"])
def test_a_bad_port_is_named(value: str) -> None:
    with pytest.raises(
        ValueError, match=f"TRITON_GRPC_PORT='{value}' is wrong: set it to a whole number from 1 to"
    ):
        TritonSettings.from_environment({"TRITON_GRPC_PORT": value})


@pytest.mark.parametrize("folder", ["/no/such", "/dev/null", f"/{'long' * 99}"])
def test_a_repository_that_is_not_a_folder_is_named(folder: str) -> None:
    with pytest.raises(
        ValueError, match=f"MODEL_REPOSITORY='{folder}' is wrong: set it to a folder of models"
    ):
        TritonSettings.from_environment({"MODEL_REPOSITORY": folder})


def test_models_of_the_start_are_named_once_each() -> None:
    environment = {"LOAD_MODELS": "musicgen-tiny, musicgen-small musicgen-tiny"}
    settings = TritonSettings.from_environment(environment)
    assert settings.load_models == ("musicgen-tiny", "musicgen-small")


@pytest.mark.parametrize(
    "value", ["musicgen-tny", "musicgen-tiny nothing", "../models", "musicgen"]
)
def test_a_model_that_is_not_there_is_named(value: str) -> None:
    wrong = (
        f"LOAD_MODELS='{value}' is wrong: set it to models of MODEL_REPOSITORY, such as musicgen-"
    )
    with pytest.raises(ValueError, match=wrong):
        TritonSettings.from_environment({"LOAD_MODELS": value})


@pytest.mark.parametrize(
    ("config", "reason"),
    [
        ('backend: "python', "String missing"),
        ('parameters { key: "memory" value { string_value: "2" } }', "parameter memory of config"),
        ("", "config.pbtxt"),
    ],
)
def test_a_model_of_the_start_that_is_wrong_is_named(
    tmp_path: Path, config: str, reason: str
) -> None:
    (tmp_path / "mine").mkdir()
    file = tmp_path / "mine" / "config.pbtxt"
    file.write_text(config) if config else file.symlink_to(tmp_path)
    with pytest.raises(ValueError, match=f"^LOAD_MODELS: mine cannot be loaded: .*{reason}"):
        TritonSettings.from_environment({"MODEL_REPOSITORY": str(tmp_path), "LOAD_MODELS": "mine"})


@pytest.mark.parametrize(
    ("host", "address"),
    [
        ("127.0.0.1", "127.0.0.1:8101"),
        ("0.0.0.0", "127.0.0.1:8101"),
        ("::", "[::1]:8101"),
        ("192.0.2.1", "192.0.2.1:8101"),
    ],
)
def test_the_gateway_connects_to_where_triton_listens(host: str, address: str) -> None:
    assert TritonSettings(host=host).grpc_address == address
