import pytest
import torch


@pytest.fixture(autouse=True, scope="package")
def one_thread() -> None:
    """As fast for such small tensors, and steadier on shared cores."""
    torch.set_num_threads(1)
