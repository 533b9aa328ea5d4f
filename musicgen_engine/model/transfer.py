"""From the host to the device, without waiting for it."""

from __future__ import annotations

import torch
from torch import Tensor


def to_device(host: Tensor, device: torch.device) -> Tensor:
    """`host` on the device. A copy from memory that is not pinned would wait for all the work that
    the device has queued."""
    return host.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else host
