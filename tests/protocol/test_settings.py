"""A setting is right, or named in one line."""

import pytest

from protocol.settings import Settings


def test_absent_and_empty_mean_the_default() -> None:
    assert Settings.of({}) == Settings.of({"MAX_DURATION": "", "MAX_QUEUE": " "}) == Settings()


def test_values_are_read() -> None:
    assert Settings.of(
        {"MAX_DURATION": "60.5", "MAX_QUEUE": "0", "MAX_WAIT": "5", "LOG_FORMAT": "json"}
    ) == Settings(60.5, 0, 5.0, "json")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("MAX_DURATION", "x"),
        ("MAX_DURATION", "nan"),
        ("MAX_DURATION", "4000"),
        ("MAX_QUEUE", "-1"),
        ("MAX_WAIT", "0"),
        ("LOG_FORMAT", "xml"),
    ],
)
def test_what_is_wrong_is_named(name: str, value: str) -> None:
    with pytest.raises(ValueError, match=f"{name}={value} is wrong: give "):
        Settings.of({name: value})
