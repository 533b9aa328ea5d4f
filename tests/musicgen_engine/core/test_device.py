"""A GPU that cannot be used is named with its reason; the CPU is not taken silently."""

from pathlib import Path

import pytest
import torch

from musicgen_engine.core.device import choose_device, devices
from protocol.errors import EngineUnavailable

GPU = torch.device("cuda", 0)


class Cuda:
    """torch.cuda on a machine with these GPUs, by their compute capability."""

    def __init__(self, *gpus: tuple[int, int], built_for: tuple[str, ...] = ("sm_75", "sm_90a")):
        self._gpus, self._built_for = gpus, built_for

    def _is_compiled(self) -> bool:
        return bool(self._built_for)

    def get_arch_list(self) -> list[str]:
        return list(self._built_for) if self._gpus else []  # as torch's

    def is_available(self) -> bool:
        return bool(self._gpus)

    def device_count(self) -> int:
        return len(self._gpus)

    def get_device_capability(self, index: int) -> tuple[int, int]:
        return self._gpus[index]

    def get_device_name(self, index: int) -> str:
        return "Old GPU"


@pytest.fixture
def machine(tmp_path: Path) -> Path:
    """One with an NVIDIA GPU, as the kernel shows it."""
    for name, vendor, kind in (("0", "0x8086", "0x060000"), ("1", "0x10de", "0x030200")):
        folder = tmp_path / "sys/bus/pci/devices" / name
        folder.mkdir(parents=True)
        (folder / "vendor").write_text(vendor + "\n")
        (folder / "class").write_text(kind + "\n")
    return tmp_path


@pytest.mark.parametrize("name", ["auto", "cuda", "cuda:0"])
def test_a_gpu_that_can_be_used_is_taken(name: str, machine: Path) -> None:
    assert choose_device(name, Cuda((8, 0)), machine) == (GPU, None)


def test_the_numbered_gpu_is_taken(machine: Path) -> None:
    assert choose_device("cuda:1", Cuda((8, 0), (9, 0)), machine)[0].index == 1


FAULTS = {
    "no CUDA": (Cuda(built_for=()), "this torch is built without CUDA"),
    "no driver": (Cuda(), "no driver that suits this torch shows a GPU"),
    "too old": (Cuda((6, 1)), "Old GPU has compute capability 6.1, and this torch needs 7.5"),
}


@pytest.mark.parametrize("kind", FAULTS)
def test_a_gpu_that_cannot_be_used_is_an_error_with_the_reason(kind: str, machine: Path) -> None:
    cuda, reason = FAULTS[kind]
    with pytest.raises(EngineUnavailable, match=f"device: cuda cannot be used: {reason}"):
        choose_device("cuda", cuda, machine)


@pytest.mark.parametrize("kind", FAULTS)
def test_auto_takes_the_cpu_and_says_why(kind: str, machine: Path) -> None:
    cuda, reason = FAULTS[kind]
    device, fault = choose_device("auto", cuda, machine)
    assert device.type == "cpu"
    assert fault and fault.startswith(f"the GPU is left out: {reason}")


def test_a_gpu_that_does_not_exist_is_an_error(machine: Path) -> None:
    with pytest.raises(EngineUnavailable, match="cuda:2 cannot be used: this machine has 1 GPUs"):
        choose_device("cuda:2", Cuda((8, 0)), machine)


def test_all_devices_are_all_gpus(machine: Path) -> None:
    cuda = Cuda((8, 0), (9, 0), (8, 0))
    names = devices("all", cuda)
    assert [choose_device(name, cuda, machine)[0].index for name in names] == [0, 1, 2]
    assert devices("auto", cuda) == ["auto"]


@pytest.mark.parametrize("kind", FAULTS)
def test_all_devices_without_a_gpu_are_an_error(kind: str, machine: Path) -> None:
    cuda, reason = FAULTS[kind]
    (name,) = devices("all", cuda)
    with pytest.raises(EngineUnavailable, match=f"device: cuda:0 cannot be used: {reason}"):
        choose_device(name, cuda, machine)


def test_one_bad_gpu_among_several_is_named(machine: Path) -> None:
    cuda = Cuda((8, 0), (6, 1))
    good, bad = devices("all", cuda)
    assert choose_device(good, cuda, machine) == (GPU, None)
    with pytest.raises(EngineUnavailable, match="device: cuda:1 cannot be used: Old GPU has"):
        choose_device(bad, cuda, machine)


@pytest.mark.parametrize("name", ["auto", "cpu"])
def test_a_machine_without_a_gpu_has_no_fault(name: str, tmp_path: Path) -> None:
    assert choose_device(name, Cuda(), tmp_path) == (torch.device("cpu"), None)
