"""How many slots a device has memory for beside the weights, before any of it is taken."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch

from musicgen_engine.config import MAX_SLOTS
from musicgen_engine.core.control_groups import groups, text
from protocol.errors import EngineUnavailable

PAGE = os.sysconf("SC_PAGE_SIZE")  # bytes
GB = 1e9
GROUP_FILES = {  # by the version of control groups: limit, usage, and the caches in memory.stat
    1: (
        "memory.limit_in_bytes",
        "memory.usage_in_bytes",
        "total_active_file",
        "total_inactive_file",
    ),
    2: ("memory.max", "memory.current", "active_file", "inactive_file"),
}


def slots_that_fit(share: float, device: torch.device, *, weights: int, slot: int) -> int:
    """How many slots of `slot` bytes go beside `weights` bytes into `share` of the device's memory.

    To be called before the checkpoint's weights are placed on the device. On a CPU, too, they lie
    in their file until then.

    Raises:
        EngineUnavailable: not even one does; says what is needed, what there is and what to do.
    """
    if device.type == "cpu":
        room = host_room()
    else:
        free, total = torch.cuda.mem_get_info(device)
        room = Room(total, free)
    slots = room.slots(share, weights, slot)
    if not slots:
        raise EngineUnavailable(
            f"the model needs {weights / GB:.1f} GB for its weights and {slot / GB:.1f} GB a song, "
            f"and may use {share:g} of the memory of {device}: {room}; raise `memory` in its "
            "config.pbtxt, make room, or choose another device"
        )
    return min(slots, MAX_SLOTS[device.type])


def in_use(device: torch.device) -> int:
    """Bytes of the device that this process holds."""
    if device.type == "cuda":
        return torch.cuda.memory_reserved(device)
    return int(text(Path("/proc/self/statm")).split()[1]) * PAGE  # resident


@dataclass(frozen=True)
class Room:
    """A device's memory in bytes. `free` is what the model may have of it, weights included."""

    total: int
    free: int

    def slots(self, share: float, weights: int, slot: int) -> int:
        return max(0, int((min(share * self.total, self.free) - weights) // slot))

    def __str__(self) -> str:
        return f"{self.total / GB:.1f} GB, of which {self.free / GB:.1f} GB can be had"


def host_room(root: Path = Path("/")) -> Room:
    """The machine's memory, or what the process's control groups leave of it where that is less.

    `root` is where /proc and /sys are.
    """
    about = _numbers(root / "proc/meminfo")
    rooms = [Room(about["MemTotal"] * 1024, about["MemAvailable"] * 1024), *_group_rooms(root)]
    return Room(min(room.total for room in rooms), min(room.free for room in rooms))


def _group_rooms(root: Path) -> Iterator[Room]:
    """A room for each limited group that the process is in."""
    for folder, version in groups("memory", root):
        limit, usage, *caches = GROUP_FILES[version]
        bound = text(folder / limit)
        if bound.isdecimal():
            # The cache of files counts as free, as it does in the machine's own MemAvailable.
            about = _numbers(folder / "memory.stat")
            used = int(text(folder / usage)) - sum(about[cache] for cache in caches)
            yield Room(int(bound), max(0, int(bound) - used))


def _numbers(file: Path) -> dict[str, int]:
    """The first number of each line, by the word before it."""
    lines = (line.split() for line in file.read_text().splitlines())
    return {words[0].rstrip(":"): int(words[1]) for words in lines}
