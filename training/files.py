"""What a stage of the training leaves behind."""

from pathlib import Path
from typing import Any

import torch


def keep(what: Any, file: Path) -> None:
    """Whole or not at all: who is stopped while writing leaves what was there."""
    torch.save(what, file.with_suffix(".new"))
    file.with_suffix(".new").rename(file)
