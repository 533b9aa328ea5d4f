"""Checkpoints as files."""

from pathlib import Path

import torch

from training.checkpoint import export


def test_an_export_leaves_the_old_file_to_its_readers(tmp_path: Path) -> None:
    """An engine has mapped it."""
    file, kept = tmp_path / "state_dict.bin", tmp_path / "kept"
    export(file, {}, {"weight": torch.zeros(3)})
    kept.hardlink_to(file)
    export(file, {}, {"weight": torch.ones(3)})
    weights = [torch.load(one, weights_only=True)["best_state"]["weight"] for one in (kept, file)]
    assert [float(weight[0]) for weight in weights] == [0, 1]
