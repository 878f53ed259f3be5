"""Puts this folder's modules where its tests find them."""

import sys
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parent))
# Threads of PyTorch's wait by spinning, which on a machine that is busy takes longer than the tests.
torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def no_gradients():
    torch.manual_seed(0)
    with torch.no_grad():
        yield
