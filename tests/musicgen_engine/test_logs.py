"""A log line names its request, in safe characters."""

from musicgen_engine.logs import about


def test_an_id_is_one_short_word() -> None:
    assert about("a-Name_1.2") == {"request_id": "a-Name_1.2"}
    assert about("x\nadmin: \x1b[2J é") == {"request_id": "x?admin????2J??"}
    assert len(about(1_000 * "x")["request_id"]) == 64


def test_a_request_without_an_id_is_a_dash() -> None:
    assert about("") == {"request_id": "-"}
