"""Depthwise separable convolution on CPUs: plans over arrays of numpy."""

from typing import Any, Literal, NamedTuple, TypeAlias, final

from numpy.typing import ArrayLike, DTypeLike, NDArray

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

__version__: str

_Array: TypeAlias = NDArray[Any]
_Extents: TypeAlias = tuple[int, int, int, int]
_Pair: TypeAlias = int | tuple[int, int]
_Padding: TypeAlias = (
    int | tuple[int, int] | tuple[int, int, int, int] | Literal["same", "same_upper", "same_lower", "valid"]
)
_Activation: TypeAlias = (
    Literal[
        "none", "relu", "relu6", "hardswish", "hardsigmoid", "sigmoid", "silu", "gelu", "mish", "tanh"
    ]
    | tuple[Literal["clamp"], float, float]
    | tuple[Literal["leaky_relu"], float]
)
_BatchNorm: TypeAlias = BatchNorm | tuple[ArrayLike, ArrayLike, ArrayLike, ArrayLike, float]
_Layout: TypeAlias = Literal["nchw", "nhwc"]
_Isa: TypeAlias = Literal["portable", "avx2", "avx512", "neon"]

class BatchNorm(NamedTuple):
    """Batch normalisation for inference: one value per output channel each.

    Building a plan folds it into weights and bias, in double precision, rounded once.
    """

    gamma: ArrayLike
    """The scale."""
    beta: ArrayLike
    """The shift."""
    mean: ArrayLike
    """The running mean."""
    variance: ArrayLike
    """The running variance."""
    epsilon: float = 1e-5
    """What is added to the variance."""

class Plan:
    """A convolution with its weights, ready to run: what the four kinds have in common.

    A plan fits any batch, height and width. Threads can share it. ``copy.copy`` and ``copy.deepcopy`` return the plan itself, as
    nothing changes it. It cannot be pickled: send the weights, and build it where it runs.
    """

    def __call__(
        self,
        input: _Array,
        /,
        *,
        residual: _Array | None = None,
        out: _Array | None = None,
        threads: int | None = None,
    ) -> _Array:
        """Computes the output, without the interpreter's lock.

        Arrays have four axes, in the order of the plan's layout: (images, channels, rows, columns) of ``"nchw"``, (images, rows,
        columns, channels) of ``"nhwc"``. Their elements are of the plan's ``dtype``. They are read and written where they are: they
        may have any strides but negative ones, as long as the last axis has neighbours side by side.

        ``residual`` has the output's shape, and is added before the activation. ``out`` is the array to write, and is returned; it may
        share no memory with the others. Without it the output is a new, contiguous array. ``threads`` is how many share the work: by
        default 1, the calling thread. Others belong to a pool that is started once. No bit of the output depends on it.

        Raises ``ValueError`` if an array does not fit the plan; nothing is written then.
        """

    def output_shape(self, input_shape: _Extents, /) -> _Extents:
        """The shape of the output's array for an input's.

        Raises ``ValueError`` if the channels are not the plan's, or the input is smaller than the window.
        """

    def describe(self, input_shape: _Extents, /, *, threads: int | None = None) -> str:
        """What runs on inputs of that shape do: kernels, passes, blocks, tasks for threads."""

    def __copy__(self) -> Plan: ...
    def __deepcopy__(self, memo: Any, /) -> Plan: ...
    def _run_nchw(self, input: _Array, residual: _Array | None, output: _Array, threads: int) -> None: ...
    def _output_nchw(self, input_shape: _Extents) -> _Extents: ...
    @property
    def layout(self) -> _Layout:
        """The order of the axes of input, residual and output."""

    @property
    def isa(self) -> _Isa:
        """The instruction set."""

    @property
    def dtype(self) -> Literal["float32", "float16", "bfloat16"]:
        """The type of the elements of input, residual and output."""

@final
class Conv2d(Plan):
    """Any convolution over height and width, with 1 group, or one for each input channel.

    It is computed as a depthwise, pointwise or standard convolution, whichever it is.
    """

    def __new__(
        cls,
        weights: ArrayLike,
        /,
        *,
        groups: int | None = None,
        stride: _Pair | None = None,
        padding: _Padding | None = None,
        dilation: _Pair | None = None,
        bias: ArrayLike | None = None,
        batch_norm: _BatchNorm | None = None,
        activation: _Activation | None = None,
        layout: _Layout = "nchw",
        dtype: DTypeLike | None = None,
        isa: _Isa | None = None,
    ) -> Conv2d:
        """A plan from weights of shape (outputs, inputs / groups, kernel height, kernel width), as PyTorch has them.

        Parameters are converted to ``float32``, and need not be kept. ``bias`` has one value per output. ``batch_norm`` is folded in.
        ``stride`` and ``dilation`` are one number, or (vertical, horizontal). Without ``padding`` it is (K − 1)·d / 2 zeros on each
        side, which at stride 1 keeps the size; an even kernel has no default. ``dtype`` is that of the arrays of runs: ``"float32"``,
        ``"float16"`` or (with the package ml_dtypes) ``"bfloat16"``; sums are of ``float32`` always. ``isa`` is by default that of the
        environment variable ``DEPTHWISE_ISA``, or else the best that this CPU has.

        Raises ``ValueError`` if arguments disagree with each other, or have no meaning.
        """

@final
class DepthwiseConv2d(Plan):
    """A filter for each channel."""

    def __new__(
        cls,
        weights: ArrayLike,
        /,
        *,
        channel_multiplier: int | None = None,
        stride: _Pair | None = None,
        padding: _Padding | None = None,
        dilation: _Pair | None = None,
        bias: ArrayLike | None = None,
        batch_norm: _BatchNorm | None = None,
        activation: _Activation | None = None,
        layout: _Layout = "nchw",
        dtype: DTypeLike | None = None,
        isa: _Isa | None = None,
    ) -> DepthwiseConv2d:
        """A plan from weights of shape (channels · multiplier, 1, kernel height, kernel width). Output o reads input o / multiplier.

        The other arguments are those of ``Conv2d``.
        """

@final
class PointwiseConv2d(Plan):
    """A mix of channels at each pixel: 1×1 convolution."""

    def __new__(
        cls,
        weights: ArrayLike,
        /,
        *,
        bias: ArrayLike | None = None,
        batch_norm: _BatchNorm | None = None,
        activation: _Activation | None = None,
        layout: _Layout = "nchw",
        dtype: DTypeLike | None = None,
        isa: _Isa | None = None,
    ) -> PointwiseConv2d:
        """A plan from weights of shape (outputs, inputs) or (outputs, inputs, 1, 1). The other arguments are those of ``Conv2d``."""

@final
class SeparableConv2d(Plan):
    """A depthwise and then a pointwise convolution, in one pass where that pays. Both ways give the same bits."""

    def __new__(
        cls,
        depthwise_weights: ArrayLike,
        pointwise_weights: ArrayLike,
        /,
        *,
        channel_multiplier: int | None = None,
        stride: _Pair | None = None,
        padding: _Padding | None = None,
        dilation: _Pair | None = None,
        depthwise_bias: ArrayLike | None = None,
        depthwise_batch_norm: _BatchNorm | None = None,
        depthwise_activation: _Activation | None = None,
        bias: ArrayLike | None = None,
        batch_norm: _BatchNorm | None = None,
        activation: _Activation | None = None,
        layout: _Layout = "nchw",
        dtype: DTypeLike | None = None,
        isa: _Isa | None = None,
        fusion: Literal["auto", "fused", "two_pass"] = "auto",
    ) -> SeparableConv2d:
        """A plan from the weights of both stages, as ``DepthwiseConv2d`` and ``PointwiseConv2d`` take them.

        ``bias``, ``batch_norm`` and ``activation`` are those of the second stage. ``fusion`` says whether both stages run in one pass.
        """

def isas() -> list[_Isa]:
    """The instruction sets that this CPU has kernels for, the preferred one last."""

def machine() -> str:
    """The name of the CPU's description, by which kernels are chosen."""
