"""A wrong setting is one line that says what to do."""

import pytest

from gateway.settings import Settings, SettingsError


def test_nothing_set_means_the_defaults() -> None:
    assert Settings.from_environment({}) == Settings()


def test_an_empty_variable_means_its_default() -> None:
    assert Settings.from_environment({"PORT": " ", "DEFAULT_MODEL": ""}) == Settings()


def test_every_variable_is_read() -> None:
    settings = Settings.from_environment(
        {
            "HOST": "0.0.0.0",
            "PORT": "80",
            "TRITON_GRPC": "dns:///triton:8001",
            "DEFAULT_MODEL": "musicgen-small",
            "MAX_DURATION": "60.5",
            "MAX_LOADED_MODELS": "1",
            "LOAD_TIMEOUT": "2",
            "GENERATE_TIMEOUT": "3",
            "RESUME_TIMEOUT": "4",
            "DRAIN_TIMEOUT": "5",
        }
    )
    assert settings == Settings(
        "0.0.0.0", 80, "dns:///triton:8001", "musicgen-small", 60.5, 1, 2.0, 3.0, 4.0, 5.0
    )


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *[("PORT", value) for value in ("http", "0", "65536", "1.5")],
        *[("TRITON_GRPC", value) for value in ("triton", "two words:1", "triton:port")],
        *[("MAX_DURATION", value) for value in ("0", "-1", "nan", "inf", "3601", "long")],
        *[("MAX_LOADED_MODELS", value) for value in ("0", "all")],
        *[("LOAD_TIMEOUT", value) for value in ("0", "inf", "1 s")],
        *[("GENERATE_TIMEOUT", value) for value in ("-5", "nan")],
    ],
)
def test_a_wrong_value_is_named_with_variable_and_remedy(name: str, value: str) -> None:
    with pytest.raises(SettingsError, match=f"^{name}='{value}' is wrong: set it to .+$"):
        Settings.from_environment({name: value})
