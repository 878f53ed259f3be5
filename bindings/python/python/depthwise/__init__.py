"""Depthwise separable convolution on CPUs: plans over arrays of numpy.

A plan is one convolution with its weights, ready to run on any batch, height and width:

* ``Conv2d``: any convolution over height and width;
* ``DepthwiseConv2d``: a filter for each channel;
* ``PointwiseConv2d``: 1×1, a mix of channels;
* ``SeparableConv2d``: a depthwise and then a pointwise convolution, in one pass where that pays.

What is wrong with an argument is a ``ValueError`` that names the numbers. ``depthwise.int8`` has plans over arrays of
8 bits, ``depthwise.torch`` puts plans into modules of PyTorch.
"""

from typing import Any, NamedTuple

from ._depthwise import (
    Conv2d,
    DepthwiseConv2d,
    Plan,
    PointwiseConv2d,
    SeparableConv2d,
    __version__,
    isas,
    machine,
)

__all__ = [
    "BatchNorm",
    "Conv2d",
    "DepthwiseConv2d",
    "Plan",
    "PointwiseConv2d",
    "SeparableConv2d",
    "__version__",
    "isas",
    "machine",
]


class BatchNorm(NamedTuple):
    """Batch normalisation for inference, as a constructor's ``batch_norm`` takes it: one value per output channel each."""

    gamma: Any
    """The scale."""
    beta: Any
    """The shift."""
    mean: Any
    """The running mean."""
    variance: Any
    """The running variance."""
    epsilon: float = 1e-5
    """What is added to the variance."""
