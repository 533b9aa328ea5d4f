"""Which devices a model runs on, and why a GPU cannot be used."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from protocol.errors import EngineUnavailable

NVIDIA, DISPLAY = "0x10de", "0x03"  # a PCI device's vendor, and the first digits of its class


def devices(name: str, cuda: Any = torch.cuda) -> list[str]:
    """The devices that `name` stands for: `all` is each GPU, others are themselves."""
    if name != "all":
        return [name]
    count = cuda.device_count() if cuda.is_available() else 0
    return [f"cuda:{index}" for index in range(max(1, count))]  # the first has the fault


def choose_device(
    name: str, cuda: Any = torch.cuda, root: Path = Path("/")
) -> tuple[torch.device, str | None]:
    """The device, and why `auto` leaves a GPU of this machine out.

    Args:
        name: auto, cpu, cuda or cuda:N.
        root: where /sys is.

    Raises:
        EngineUnavailable: the GPU that `name` asks for cannot be used.
    """
    if name == "cpu":
        return torch.device("cpu"), None
    index = int(name.partition(":")[2] or 0)
    fault = _fault(index, cuda)
    if not fault:
        return torch.device("cuda", index), None
    if name != "auto":
        raise EngineUnavailable(f"device: {name} cannot be used: {fault}")
    return torch.device("cpu"), f"the GPU is left out: {fault}" if _has_gpu(root) else None


def use(device: torch.device) -> None:
    """Make a GPU the calling thread's own: its streams, events and graphs are made there."""
    if device.type == "cuda":
        torch.cuda.set_device(device)


def _fault(index: int, cuda: Any) -> str | None:
    if not cuda._is_compiled():
        return "this torch is built without CUDA; install one with it, or choose `device: cpu`"
    count = cuda.device_count() if cuda.is_available() else 0
    if not count:
        return (
            "no driver that suits this torch shows a GPU; `nvidia-smi` must list one and a driver "
            "that is new enough"
        )
    if index >= count:
        return f"this machine has {count} GPUs, the first is cuda:0; name another device"
    major, minor = cuda.get_device_capability(index)
    oldest = min(_capability(arch) for arch in cuda.get_arch_list())
    if (major, minor) < oldest:
        needed = ".".join(map(str, oldest))
        return (
            f"{cuda.get_device_name(index)} has compute capability {major}.{minor}, and this torch "
            f"needs {needed}; install an older torch, or choose another device"
        )
    return None


def _capability(arch: str) -> tuple[int, int]:
    """sm_75 → (7, 5), sm_90a → (9, 0)"""
    digits = arch.partition("_")[2].rstrip("abcdefgh")
    return int(digits[:-1]), int(digits[-1])


def _has_gpu(root: Path) -> bool:
    """Whether the machine has a GPU of NVIDIA's, with a driver or without."""
    for device in (root / "sys/bus/pci/devices").glob("*"):
        vendor, kind = ((device / name).read_text() for name in ("vendor", "class"))
        if vendor.strip() == NVIDIA and kind.startswith(DISPLAY):
            return True
    return False
