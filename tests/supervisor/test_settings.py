from pathlib import Path

import pytest

from supervisor.settings import Settings


def test_without_variables_the_defaults_hold() -> None:
    settings = Settings.of({})
    assert settings == Settings()
    assert settings.model_repository.name == "model_repository"


def test_variables_choose(tmp_path: Path) -> None:
    chosen = {"TRITON_HOST": "::1", "TRITON_GRPC_PORT": "81", "MODEL_REPOSITORY": str(tmp_path)}
    settings = Settings.of(chosen)
    assert (settings.triton_grpc, settings.model_repository) == ("[::1]:81", tmp_path)


def test_an_empty_variable_is_one_not_set() -> None:
    assert (
        Settings.of({"TRITON_HTTP_PORT": "", "TRITON_HOST": "", "MODEL_REPOSITORY": ""})
        == Settings()
    )


@pytest.mark.parametrize("value", ["http", "0", "65536", "-1", "80.5", "²"])
def test_a_bad_port_is_named(value: str) -> None:
    with pytest.raises(ValueError, match=f"TRITON_GRPC_PORT={value} is not a port"):
        Settings.of({"TRITON_GRPC_PORT": value})


def test_a_repository_that_is_no_folder_is_named() -> None:
    with pytest.raises(ValueError, match="MODEL_REPOSITORY=/no/such is not a folder of models"):
        Settings.of({"MODEL_REPOSITORY": "/no/such"})


@pytest.mark.parametrize(
    ("host", "asked"),
    [
        ("127.0.0.1", "127.0.0.1:8101"),
        ("0.0.0.0", "127.0.0.1:8101"),
        ("::", "[::1]:8101"),
        ("192.0.2.1", "192.0.2.1:8101"),
    ],
)
def test_the_gateway_asks_where_triton_listens(host: str, asked: str) -> None:
    assert Settings(triton_host=host).triton_grpc == asked
