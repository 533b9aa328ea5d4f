"""A setting is right, or the error names it in one line."""

from pathlib import Path

import pytest

from musicgen_engine.settings import EngineSettings
from protocol.settings import Environment, SettingsError


def test_an_absent_or_empty_variable_means_its_default() -> None:
    empty = {"MAX_DURATION": "", "MAX_QUEUE": " "}
    assert (
        EngineSettings.from_environment({})
        == EngineSettings.from_environment(empty)
        == EngineSettings()
    )


def test_values_are_read() -> None:
    variables = {"MAX_DURATION": "60.5", "MAX_QUEUE": "0", "MAX_WAIT": "5", "LOG_FORMAT": "json"}
    settings = EngineSettings.from_environment({**variables, "MEMORY_SHARE": "0.9"})
    assert settings == EngineSettings(60.5, 0, 5.0, 0.9, "json")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("MAX_DURATION", "x"),
        ("MAX_DURATION", "nan"),
        ("MAX_DURATION", "0"),
        ("MAX_DURATION", "4000"),
        ("MAX_QUEUE", "-1"),
        ("MAX_QUEUE", "1.5"),
        ("MAX_WAIT", "0"),
        ("MAX_WAIT", "3601"),
        ("MEMORY_SHARE", "0"),
        ("MEMORY_SHARE", "1.1"),
        ("MEMORY_SHARE", "nan"),
        ("LOG_FORMAT", "xml"),
    ],
)
def test_an_error_names_variable_value_and_remedy(name: str, value: str) -> None:
    with pytest.raises(SettingsError, match=f"^{name}='{value}' is wrong: set it to [^\n]+$"):
        EngineSettings.from_environment({name: value})


def test_a_whole_number_has_limits() -> None:
    environment = Environment({"PORT": "80"})
    assert environment.whole("PORT", 8001, 1, 65_535) == 80
    with pytest.raises(SettingsError, match=r"set it to a whole number from 100 to 200$"):
        environment.whole("PORT", 8001, 100, 200)


def test_a_text_matches_its_pattern_as_a_whole() -> None:
    with pytest.raises(SettingsError, match=r"^A='xy' is wrong: set it to x$"):
        Environment({"A": "xy"}).text("A", pattern="x", remedy="x")


def test_a_secret_is_in_a_variable_or_in_a_file(tmp_path: Path) -> None:
    file = tmp_path / "key"
    file.write_text("\ufeffletters\n", encoding="utf-8")
    assert Environment({}).secret("KEY") is None
    assert Environment({"KEY": "letters"}).secret("KEY") == ("KEY", "letters")
    named = Environment({"KEY_FILE": str(file)}).secret("KEY")
    assert named == (f"KEY_FILE={str(file)!r}", "letters")


def test_a_secret_in_two_places_or_unreadable_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="KEY and KEY_FILE are both set"):
        Environment({"KEY": "a", "KEY_FILE": "b"}).secret("KEY")
    with pytest.raises(SettingsError, match="is wrong: set it to a text file"):
        Environment({"KEY_FILE": str(tmp_path / "none")}).secret("KEY")
