from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

import torch
from torch import Tensor

from training import trainer


@dataclass(frozen=True)
class Recipe:
    """Trains one layer; each step leaves the weights before it in `folder`."""

    folder: Path
    steps: int = 5
    averaged: int = 3

    def build(self, device: torch.device) -> Any:
        torch.manual_seed(0)
        return torch.nn.Linear(3, 2).to(device)

    def learning_rate(self, step: int) -> float:
        return 0.1 * (step + 1)

    def loss(self, lm: Any, step: int, workers: int, rng: Random, device: torch.device) -> Tensor:
        torch.save(lm.state_dict(), self.folder / f"{step}.pt")
        return torch.square(lm(torch.rand(4, 3, device=device))).mean()

    def evaluate(self, lm: Any, device: torch.device) -> dict[str, Any]:
        return {}


def test_trained_weights_are_the_mean_of_the_last_steps(tmp_path: Path) -> None:
    recipe, state = Recipe(tmp_path), tmp_path / "state.pt"
    trainer.train(recipe, state)
    after = [torch.load(tmp_path / f"{step}.pt", weights_only=True) for step in (3, 4)]
    after.append(torch.load(state, weights_only=True)["model"])
    for name, weights in trainer.load(recipe, state).state_dict().items():
        mean = torch.stack([each[name].cpu() for each in after]).mean(dim=0)
        torch.testing.assert_close(weights, mean)
        assert not torch.allclose(weights, after[-1][name].cpu())
