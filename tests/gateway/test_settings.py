"""GatewaySettings from variables; the error of a wrong one is one line with its remedy."""

import re
from pathlib import Path

import pytest

from gateway.access import read_keys
from gateway.settings import GatewaySettings
from protocol.settings import SettingsError


def test_no_variables_mean_the_defaults() -> None:
    assert GatewaySettings.from_environment({}) == GatewaySettings()


def test_an_empty_variable_means_its_default() -> None:
    assert GatewaySettings.from_environment({"PORT": " ", "DEFAULT_MODEL": ""}) == GatewaySettings()


def test_every_variable_is_read() -> None:
    settings = GatewaySettings.from_environment(
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
            "API_KEYS": "ann:0123456789abcdef",
            "MAX_SONGS_PER_KEY": "6",
            "CORS_ORIGINS": "https://music.example, http://localhost:3000",
            "TRITON_ADMIN_KEY": "sixteen_letters-",
        }
    )
    assert settings == GatewaySettings(
        *("0.0.0.0", 80, "dns:///triton:8001", "musicgen-small", 60.5, 1, 2.0, 3.0, 4.0, 5.0),
        *(read_keys("ann:0123456789abcdef"), 6),
        *(("https://music.example", "http://localhost:3000"), "sixteen_letters-"),
    )
    assert "sixteen_letters-" not in repr(settings)


def test_pools_are_read_and_the_first_is_the_default() -> None:
    pools = "musicgen-small=small-pods.music.svc:8101 my-model=10.0.0.1:81,[fd00::1]:82"
    settings = GatewaySettings.from_environment({"TRITON_POOLS": pools})
    assert settings.triton_pools == {
        "musicgen-small": (("small-pods.music.svc", 8101),),
        "my-model": (("10.0.0.1", 81), ("fd00::1", 82)),
    }
    assert settings.default_model == "musicgen-small"


def test_pools_and_one_triton_exclude_each_other() -> None:
    both = {"TRITON_POOLS": "small=pods:8101", "TRITON_GRPC": "triton:8101"}
    with pytest.raises(SettingsError, match=r"^TRITON_GRPC and TRITON_POOLS are both set: set one"):
        GatewaySettings.from_environment(both)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *[("PORT", value) for value in ("http", "0", "65536", "1.5")],
        *[("TRITON_GRPC", value) for value in ("triton", "two words:1", "triton:port")],
        *[
            ("TRITON_POOLS", value)
            for value in (
                "pods:8101",
                "small=",
                "small=pods",
                "small=pods:0",
                "small=pods:65536",
                "small=pods:8101,",
                "small=pods:8101 small=more:8101",
                "small=po ds:8101",
                "small=a..b:8101",
                "=pods:8101",
                "small=http://pods:8101",
            )
        ],
        *[("MAX_DURATION", value) for value in ("0", "-1", "nan", "inf", "3601", "long")],
        *[("MAX_LOADED_MODELS", value) for value in ("0", "all")],
        *[("LOAD_TIMEOUT", value) for value in ("0", "inf", "1 s")],
        *[("GENERATE_TIMEOUT", value) for value in ("-5", "nan")],
        *[("MAX_SONGS_PER_KEY", value) for value in ("0", "all")],
        *[
            ("CORS_ORIGINS", value)
            for value in (
                "music.example",
                "http://music.example/",
                "*, *",
                "https://Music.example",
                "http://music.example:80",
            )
        ],
        *[("CORS_ORIGINS", value) for value in ("* https://music.example", "https://*.example")],
    ],
)
def test_the_error_names_variable_value_and_remedy(name: str, value: str) -> None:
    with pytest.raises(SettingsError, match=re.escape(f"{name}='{value}' is wrong: set it to ")):
        GatewaySettings.from_environment({name: value})


@pytest.mark.parametrize("value", ["fifteen_letters", "sixteen letters.", "sixteen=letters:"])
def test_the_error_shows_no_admin_key(value: str) -> None:
    with pytest.raises(SettingsError, match=r"^TRITON_ADMIN_KEY is wrong: set it to 16 ") as raised:
        GatewaySettings.from_environment({"TRITON_ADMIN_KEY": value})
    assert value not in str(raised.value)


def test_keys_are_read_from_a_file(tmp_path: Path) -> None:
    file = tmp_path / "keys"
    file.write_text("# ours\nann:0123456789abcdef\nfedcba9876543210\n")
    settings = GatewaySettings.from_environment({"API_KEYS_FILE": str(file)})
    assert [key.name for key in settings.api_keys] == ["ann", "key-2"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "set it to a text file that the service may read"),
        (b"\xff\xfe", "set it to a text file that the service may read"),
        (b"# empty", "there is no key in it"),
        (b"0123456789abcdef\nsecret", "key 2 is wrong"),
    ],
)
def test_the_error_names_a_wrong_file_of_keys(
    tmp_path: Path, content: bytes | None, message: str
) -> None:
    file = tmp_path / "keys"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(SettingsError, match=f"^API_KEYS_FILE='{file}' is wrong: {message}") as it:
        GatewaySettings.from_environment({"API_KEYS_FILE": str(file)})
    assert "secret" not in str(it.value)


def test_the_error_shows_no_key() -> None:
    with pytest.raises(SettingsError, match=r"^API_KEYS is wrong: key 1 is wrong; give KEY") as it:
        GatewaySettings.from_environment({"API_KEYS": "secret"})
    assert "secret" not in str(it.value)


def test_keys_in_two_variables_are_refused() -> None:
    with pytest.raises(SettingsError, match="API_KEYS and API_KEYS_FILE are both set"):
        GatewaySettings.from_environment({"API_KEYS": "0123456789abcdef", "API_KEYS_FILE": "/keys"})


@pytest.mark.parametrize(
    ("host", "shown"),
    [
        ("127.0.0.1", "localhost"),
        ("0.0.0.0", "localhost"),
        ("::", "localhost"),
        ("192.0.2.1", "192.0.2.1"),
        ("2001:db8::1", "[2001:db8::1]"),
    ],
)
def test_the_address_for_people_works_in_a_browser(host: str, shown: str) -> None:
    assert GatewaySettings(host).url == f"http://{shown}:8001"
