"""How many slots fit is known before any memory is taken; an error says why none does."""

import re
from pathlib import Path

import pytest
import torch

from musicgen_engine.config import MAX_SLOTS
from musicgen_engine.core.memory import Room, host_room, slots_that_fit
from protocol.errors import EngineUnavailable

GB = 10**9
CPU = torch.device("cpu")


@pytest.mark.parametrize(
    ("share", "weights", "slot", "slots"),
    [
        (0.5, 2 * GB, GB, 8),  # the share limits
        (1.0, 2 * GB, GB, 14),  # what is free limits
        (0.5, 2 * GB, 8 * GB, 1),  # it fits exactly
        (0.5, 2 * GB, 8 * GB + 1, 0),
        (0.5, 10 * GB, 1, 0),  # the weights alone fill it
        (0.5, 11 * GB, GB, 0),
        (0.05, 0, GB, 1),
    ],
)
def test_slots_fill_what_the_weights_leave(
    share: float, weights: int, slot: int, slots: int
) -> None:
    assert Room(total=20 * GB, free=16 * GB).slots(share, weights, slot) == slots


def test_the_number_of_slots_has_a_limit() -> None:
    assert slots_that_fit(0.5, CPU, weights=1, slot=1) == MAX_SLOTS["cpu"]


def test_an_error_names_the_need_the_memory_and_the_remedy() -> None:
    with pytest.raises(EngineUnavailable) as caught:
        slots_that_fit(0.25, CPU, weights=10**15, slot=2 * GB)
    text = caught.value.message
    assert "1000000.0 GB for its weights and 2.0 GB a song" in text
    total = host_room().total / GB
    assert f"0.25 of the memory of cpu: {total:.1f} GB" in text
    assert "raise `memory` in its config.pbtxt" in text


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpu_has_memory_of_its_own() -> None:
    total = torch.cuda.get_device_properties(0).total_memory
    gpu = torch.device("cuda", 0)
    assert slots_that_fit(0.5, gpu, weights=0, slot=total // 10) == 5
    assert slots_that_fit(0.5, gpu, weights=1, slot=1) == MAX_SLOTS["cuda"]
    with pytest.raises(EngineUnavailable, match="memory of cuda:0"):
        slots_that_fit(0.5, gpu, weights=total, slot=1)


def test_the_memory_of_this_machine_can_be_read() -> None:
    room = host_room()
    assert 0 < room.free <= room.total
    meminfo = Path("/proc/meminfo").read_text()
    (kib,) = re.findall(r"MemTotal: +(\d+) kB", meminfo)
    assert room.total <= int(kib) * 1024


@pytest.fixture
def machine(tmp_path: Path) -> Path:
    """The root of a machine of 64 GB, of which 60 are available, without control groups."""
    (tmp_path / "proc/self").mkdir(parents=True)
    meminfo = "MemTotal: 64000000 kB\nMemFree: 1 kB\nMemAvailable: 60000000 kB\nHugePages: 0\n"
    (tmp_path / "proc/meminfo").write_text(meminfo)
    return tmp_path


def version_2(machine: Path, path: str, limits: dict[str, str]) -> None:
    """A process in the group `path`; limits by group, each using 3 GB, 1 of it for files."""
    (machine / "proc/self/cgroup").write_text(f"0::{path}\n")
    for group, limit in limits.items():
        folder = machine / "sys/fs/cgroup" / group
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "memory.max").write_text(limit + "\n")
        (folder / "memory.current").write_text(f"{3 * GB}\n")
        files = f"anon {2 * GB}\nactive_file {GB // 4}\ninactive_file {GB // 4 * 3}\n"
        (folder / "memory.stat").write_text(files)


def version_1(machine: Path, path: str, group: str, limit: int) -> None:
    (machine / "proc/self/cgroup").write_text(f"9:cpu:/\n4:hugetlb,memory:{path}\n0::/\n")
    folder = machine / "sys/fs/cgroup/memory" / group
    folder.mkdir(parents=True)
    (folder / "memory.limit_in_bytes").write_text(f"{limit}\n")
    (folder / "memory.usage_in_bytes").write_text(f"{3 * GB}\n")
    (folder / "memory.stat").write_text(f"cache 0\ntotal_active_file {GB}\ntotal_inactive_file 0\n")


def test_without_control_groups_the_machine_is_the_limit(machine: Path) -> None:
    assert host_room(machine) == Room(65_536_000_000, 61_440_000_000)


def test_a_lower_limit_of_a_group_counts(machine: Path) -> None:
    version_2(machine, "/a/b", {"a/b": str(8 * GB)})
    assert host_room(machine) == Room(8 * GB, 6 * GB)


def test_a_group_without_a_limit_does_not_count(machine: Path) -> None:
    version_2(machine, "/a/b", {"a/b": "max", "a": str(900 * GB)})
    assert host_room(machine) == Room(65_536_000_000, 61_440_000_000)


def test_the_limit_of_a_group_above_counts(machine: Path) -> None:
    version_2(machine, "/a/b", {"a/b": "max", "a": str(4 * GB)})
    assert host_room(machine) == Room(4 * GB, 2 * GB)


@pytest.mark.parametrize("path", ["/", "/docker/of-the-host", "/../of-the-host"])
def test_a_containers_limit_is_found_at_any_path(machine: Path, path: str) -> None:
    version_2(machine, path, {"": str(5 * GB)})
    assert host_room(machine) == Room(5 * GB, 3 * GB)


@pytest.mark.parametrize("group", ["", "pod/c1"])
def test_control_groups_of_version_1_are_read(machine: Path, group: str) -> None:
    version_1(machine, "/pod/c1", group, 7 * GB)
    assert host_room(machine) == Room(7 * GB, 5 * GB)


def test_a_group_over_its_limit_has_no_free_memory(machine: Path) -> None:
    version_2(machine, "/", {"": str(GB)})
    assert host_room(machine) == Room(GB, 0)
