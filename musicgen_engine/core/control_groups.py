"""The control groups of this process, which limit a container.

Source: the kernel's Documentation/admin-guide/cgroup-v1 and cgroup-v2.rst.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path


def groups(controller: str, root: Path) -> Iterator[tuple[Path, int]]:
    """The folder of each group that may limit what `controller` counts, and its version, 1 or 2.

    In a container the kernel may give another path than the mounted one: the groups
    above, up to the mount, are always looked at.
    """
    for line in text(root / "proc/self/cgroup").splitlines():
        _, controllers, path = line.split(":", 2)
        if not controllers:
            version, mount = 2, ""
        elif controller in controllers.split(","):
            version, mount = 1, controller
        else:
            continue
        top = root / "sys/fs/cgroup" / mount
        group = top / path.lstrip("/")
        for folder in (group, *group.parents):
            yield folder, version
            if folder == top:
                break


def text(file: Path) -> str:
    """Empty where there is no file."""
    return file.read_text().strip() if file.exists() else ""
