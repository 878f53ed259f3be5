"""Plans over arrays of 8 bits: exact, with the same results on every CPU."""

from typing import Any, Literal, NamedTuple, TypeAlias, final

from numpy.typing import ArrayLike, DTypeLike, NDArray

__all__ = [
    "Conv2d",
    "DepthwiseConv2d",
    "Plan",
    "PointwiseConv2d",
    "Quantized",
    "SeparableConv2d",
    "Weights",
]

_Array: TypeAlias = NDArray[Any]
_Extents: TypeAlias = tuple[int, int, int, int]
_Pair: TypeAlias = int | tuple[int, int]
_Padding: TypeAlias = (
    int | tuple[int, int] | tuple[int, int, int, int] | Literal["same", "same_upper", "same_lower", "valid"]
)
_Layout: TypeAlias = Literal["nchw", "nhwc"]
_Isa: TypeAlias = Literal["portable", "avx2", "avx512", "avx512vnni", "neon"]
_Rounding: TypeAlias = Literal["nearest_even", "tflite", "tflite_legacy"]
_Quantized: TypeAlias = Quantized | tuple[DTypeLike, float, int]
_Weights: TypeAlias = Weights | tuple[ArrayLike, ArrayLike, int]

class Quantized(NamedTuple):
    """What the numbers of an array stand for: scale · (number − zero point)."""

    dtype: DTypeLike
    """Their type, ``"uint8"`` or ``"int8"``."""
    scale: float
    """The step from a number to the next, finite and above 0."""
    zero_point: int
    """The number that stands for 0, in the range of the type."""

class Weights(NamedTuple):
    """Weights of 8 bits: w stands for scale · (w − zero point)."""

    values: ArrayLike
    """An array of ``int8`` or ``uint8``, of the shape that the constructor says."""
    scales: ArrayLike
    """One scale, or one for each output."""
    zero_point: int = 0
    """The number that stands for 0, for all."""

class Plan:
    """A convolution of arrays of 8 bits with its weights, ready to run: what the four kinds have in common.

    What ``depthwise.Plan`` says of its plans holds for these.
    """

    def __call__(self, input: _Array, /, *, out: _Array | None = None, threads: int | None = None) -> _Array:
        """Computes the output, as a call of ``depthwise.Plan`` does.

        The input's elements are of ``input_dtype``, those of the output and of ``out`` of ``dtype``. No bit of the output depends on
        threads, layout or CPU.

        Raises ``ValueError`` if an array does not fit the plan; nothing is written then.
        """

    def output_shape(self, input_shape: _Extents, /) -> _Extents:
        """The shape of the output's array for an input's.

        Raises ``ValueError`` if the channels are not the plan's, or the input is smaller than the window.
        """

    def __copy__(self) -> Plan: ...
    def __deepcopy__(self, memo: Any, /) -> Plan: ...
    @property
    def layout(self) -> _Layout:
        """The order of the axes of input and output."""

    @property
    def isa(self) -> _Isa:
        """The instruction set."""

    @property
    def input_dtype(self) -> Literal["uint8", "int8"]:
        """The type of the elements of inputs."""

    @property
    def dtype(self) -> Literal["uint8", "int8", "int32"]:
        """The type of the elements of outputs."""

@final
class Conv2d(Plan):
    """A filter over all channels for each output channel."""

    def __new__(
        cls,
        weights: _Weights,
        /,
        *,
        input: _Quantized,
        output: _Quantized | Literal["int32"],
        rounding: _Rounding = "nearest_even",
        stride: _Pair | None = None,
        padding: _Padding | None = None,
        dilation: _Pair | None = None,
        bias: ArrayLike | None = None,
        clamp: tuple[int, int] | None = None,
        layout: _Layout = "nchw",
        isa: _Isa | None = None,
    ) -> Conv2d:
        """A plan from weights whose values have the shape (outputs, inputs, kernel height, kernel width).

        ``input`` and ``output`` say what the numbers of arrays stand for. With ``"int32"`` as ``output``, outputs are the sums: bias
        + Σ (input − its zero point) · (weight − its zero point). ``bias`` is a whole number of 32 bits for each output, where the sums
        start. ``clamp`` bounds outputs, as an activation does: ReLU starts at the zero point. ``rounding`` says how sums become
        numbers of 8 bits: ``"nearest_even"`` is ONNX's QLinearConv, ``"tflite"`` the reference kernels of TensorFlow Lite for INT8,
        ``"tflite_legacy"`` those of its older networks of UINT8. Geometry, ``layout`` and ``isa`` are those of ``depthwise.Conv2d``;
        padding is the input's zero point.

        Raises ``ValueError`` if arguments disagree with each other, have no meaning, or if a sum might not fit in 32 bits.
        """

@final
class DepthwiseConv2d(Plan):
    """A filter for each channel."""

    def __new__(
        cls,
        weights: _Weights,
        /,
        *,
        input: _Quantized,
        output: _Quantized | Literal["int32"],
        rounding: _Rounding = "nearest_even",
        channel_multiplier: int | None = None,
        stride: _Pair | None = None,
        padding: _Padding | None = None,
        dilation: _Pair | None = None,
        bias: ArrayLike | None = None,
        clamp: tuple[int, int] | None = None,
        layout: _Layout = "nchw",
        isa: _Isa | None = None,
    ) -> DepthwiseConv2d:
        """A plan from weights whose values have the shape (channels · multiplier, 1, kernel height, kernel width).

        The other arguments are those of ``Conv2d``.
        """

@final
class PointwiseConv2d(Plan):
    """A mix of channels at each pixel: 1×1 convolution."""

    def __new__(
        cls,
        weights: _Weights,
        /,
        *,
        input: _Quantized,
        output: _Quantized | Literal["int32"],
        rounding: _Rounding = "nearest_even",
        bias: ArrayLike | None = None,
        clamp: tuple[int, int] | None = None,
        layout: _Layout = "nchw",
        isa: _Isa | None = None,
    ) -> PointwiseConv2d:
        """A plan from weights whose values have the shape (outputs, inputs) or (outputs, inputs, 1, 1).

        The other arguments are those of ``Conv2d``.
        """

@final
class SeparableConv2d(Plan):
    """A depthwise and then a pointwise convolution, in one pass, with the results of the two one after the other."""

    def __new__(
        cls,
        depthwise_weights: _Weights,
        pointwise_weights: _Weights,
        /,
        *,
        input: _Quantized,
        between: _Quantized,
        output: _Quantized | Literal["int32"],
        rounding: _Rounding = "nearest_even",
        channel_multiplier: int | None = None,
        stride: _Pair | None = None,
        padding: _Padding | None = None,
        dilation: _Pair | None = None,
        depthwise_bias: ArrayLike | None = None,
        depthwise_clamp: tuple[int, int] | None = None,
        bias: ArrayLike | None = None,
        clamp: tuple[int, int] | None = None,
        layout: _Layout = "nchw",
        isa: _Isa | None = None,
    ) -> SeparableConv2d:
        """A plan from the weights of both stages, as ``DepthwiseConv2d`` and ``PointwiseConv2d`` take them.

        ``between`` says what the numbers between the stages stand for. ``bias`` and ``clamp`` are those of the second stage.
        """
