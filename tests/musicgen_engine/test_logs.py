"""What is logged of a request says whose it is, and nothing that a caller made up."""

from musicgen_engine.logs import about


def test_an_id_stands_in_one_line() -> None:
    assert about("a-Name_1.2") == {"request_id": "a-Name_1.2"}
    assert about("x\nadmin: \x1b[2J é") == {"request_id": "x?admin????2J??"}
    assert len(about(1_000 * "x")["request_id"]) == 64


def test_no_id_is_said_so() -> None:
    assert about("") == {"request_id": "-"}
