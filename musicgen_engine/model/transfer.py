"""From the host to the device, without waiting for it."""

from __future__ import annotations

import torch
from torch import Tensor


def sent(host: Tensor, device: torch.device) -> Tensor:
    """`host` on the device. From memory that is not pinned, a copy would wait for all that the
    device has yet to do."""
    return host.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else host
