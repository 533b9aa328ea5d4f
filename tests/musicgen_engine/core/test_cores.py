"""Threads are no more than the cores that a container leaves."""

import math
from pathlib import Path

import pytest
import torch

from musicgen_engine.core.cores import cores, limit_threads


def machine(root: Path, groups: str, files: dict[str, str]) -> Path:
    """The root of a machine whose control groups have these files."""
    for name, content in {"proc/self/cgroup": groups, **files}.items():
        file = root / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(content + "\n")
    return root


def test_without_control_groups_cores_have_no_limit(tmp_path: Path) -> None:
    assert cores(tmp_path) == math.inf


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({"a/b": "150000 100000"}, 1.5),
        ({"a/b": "max 100000"}, math.inf),
        ({"a/b": "max 100000", "a": "50000 25000"}, 2.0),  # that of the group above
        ({"": "1000 100000"}, 0.01),  # in a container, where a/b is a path of the host
        ({}, math.inf),  # a root group has no such file
    ],
)
def test_the_lowest_limit_of_all_groups_counts(
    tmp_path: Path, files: dict[str, str], expected: float
) -> None:
    limits = {f"sys/fs/cgroup/{group}/cpu.max": limit for group, limit in files.items()}
    assert cores(machine(tmp_path, "0::/a/b", limits)) == expected


@pytest.mark.parametrize(("quota", "expected"), [("300000", 3.0), ("-1", math.inf)])
def test_limits_of_version_1_are_read(tmp_path: Path, quota: str, expected: float) -> None:
    pod = "sys/fs/cgroup/cpu/pod"
    files = {f"{pod}/cpu.cfs_quota_us": quota, f"{pod}/cpu.cfs_period_us": "100000"}
    groups = "4:memory:/pod\n3:cpu,cpuacct:/pod\n0::/"
    assert cores(machine(tmp_path, groups, files)) == expected


def test_threads_are_at_most_those_of_before() -> None:
    torch.set_num_threads(3)
    limit_threads()
    assert torch.get_num_threads() == max(1, math.ceil(min(3, cores())))
