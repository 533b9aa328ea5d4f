from bench.report import Table
from bench.steps import PairedTimer


def test_timer_leaves_out_the_first_step_of_a_burst():
    taken = []
    timer = PairedTimer("theirs", {"ours": lambda: taken.append("ours")})
    for _ in range(timer.STEPS):
        timer()
    assert len(taken) == 3 * timer.BURST
    assert {name: len(times) for name, times in timer.times.items()} == {
        "theirs": 3 * (timer.BURST - 1),
        "ours": 3 * (timer.BURST - 1),
    }


def test_table_is_markdown(capsys):
    table = Table("Steps per second")
    table.add({"songs": 1, "a longer name": 38.4})
    table.add({"songs": 8, "a longer name": "none"})
    assert capsys.readouterr().out.splitlines() == [
        "",
        "Steps per second",
        "",
        "|     songs | a longer name |",
        "| --------- | ------------- |",
        "|         1 |          38.4 |",
        "|         8 |          none |",
    ]
    assert [row["songs"] for row in table.rows] == [1, 8]
