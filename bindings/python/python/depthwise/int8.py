"""Plans over arrays of 8 bits: exact, with the same results on every CPU.

A number q of an array stands for scale · (q − zero point): ``Quantized`` says which. Plans sum in 32 bits without error and round each
sum once more to 8 bits, by one of two rules: ONNX's QLinearConv, or the reference kernels of TensorFlow Lite.
"""

from typing import Any, NamedTuple

from ._depthwise import int8 as _int8

__all__ = [
    "Conv2d",
    "DepthwiseConv2d",
    "Plan",
    "PointwiseConv2d",
    "Quantized",
    "SeparableConv2d",
    "Weights",
]

Conv2d = _int8.Conv2d
DepthwiseConv2d = _int8.DepthwiseConv2d
Plan = _int8.Plan
PointwiseConv2d = _int8.PointwiseConv2d
SeparableConv2d = _int8.SeparableConv2d


class Quantized(NamedTuple):
    """What the numbers of an array stand for: scale · (number − zero point)."""

    dtype: Any
    """Their type, ``"uint8"`` or ``"int8"``."""
    scale: float
    """The step from a number to the next, finite and above 0."""
    zero_point: int
    """The number that stands for 0, in the range of the type."""


class Weights(NamedTuple):
    """Weights of 8 bits: w stands for scale · (w − zero point)."""

    values: Any
    """An array of ``int8`` or ``uint8``, of the shape that the constructor says."""
    scales: Any
    """One scale, or one for each output."""
    zero_point: int = 0
    """The number that stands for 0, for all."""
