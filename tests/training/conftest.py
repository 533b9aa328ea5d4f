import pytest
import torch


@pytest.fixture(autouse=True, scope="package")
def one_thread() -> None:
    """As fast for so little, and steady where cores are shared."""
    torch.set_num_threads(1)
