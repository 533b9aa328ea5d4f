from typing import Any

import pytest
import torch

from training import data, language_model
from training.checkpoint import write_text_encoder
from training.music import BAR_POSITIONS
from training.structure import TINY


@pytest.fixture(autouse=True, scope="package")
def one_thread() -> None:
    """As fast for such small tensors, and steadier on shared cores."""
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def lm(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """musicgen-tiny's language model before training, without dropout."""
    folder = tmp_path_factory.mktemp("lm")
    write_text_encoder(folder, TINY)
    return language_model.build(folder, torch.device("cpu")).eval()


def numbered_songs(count: int) -> torch.Tensor:
    """Songs whose codes in the second codebook tell their frame, and in the third their number."""
    frame = torch.arange(3_000)
    silence = data.FIRST_POSITION_CODE + frame % BAR_POSITIONS
    return torch.stack(
        [torch.stack([silence, frame, torch.full_like(frame, n), silence]) for n in range(count)]
    ).short()
