"""Plans over arrays of 8 bits, against the definition, bit for bit: what they compute, and what they refuse."""

import copy
import math
import pickle

import numpy as np
import pytest

from depthwise import int8
from depthwise.int8 import Quantized, Weights

RANDOM = np.random.default_rng(7)
RULES = ["nearest_even", "tflite", "tflite_legacy"]
LEAST = {"uint8": 0, "int8": -128}


def numbers(dtype, *shape):
    return RANDOM.integers(LEAST[dtype], LEAST[dtype] + 256, shape).astype(dtype)


def sums(x, zero_point, weights, *, groups=1, stride=(1, 1), padding=(0, 0, 0, 0), dilation=(1, 1), bias=0):
    """Of arrays in NCHW. The padding is that at the top, at the left, at the bottom and at the right."""
    top, left, bottom, right = padding
    x = np.pad(x.astype(np.int64) - zero_point, ((0, 0), (0, 0), (top, bottom), (left, right)))
    w = weights.values.astype(np.int64) - weights.zero_point
    outputs, inputs, kh, kw = w.shape
    height = (x.shape[2] - dilation[0] * (kh - 1) - 1) // stride[0] + 1
    width = (x.shape[3] - dilation[1] * (kw - 1) - 1) // stride[1] + 1
    y = np.zeros((len(x), outputs, height, width), np.int64)
    for o in range(outputs):
        first = o // (outputs // groups) * inputs
        for i in range(height):
            for j in range(width):
                rows = slice(i * stride[0], i * stride[0] + dilation[0] * (kh - 1) + 1, dilation[0])
                columns = slice(j * stride[1], j * stride[1] + dilation[1] * (kw - 1) + 1, dilation[1])
                y[:, o, i, j] = (x[:, first : first + inputs, rows, columns] * w[o]).sum((1, 2, 3))
    return y + np.broadcast_to(bias, outputs).astype(np.int64)[:, None, None]


def fixed(total, factor):
    """The sum times the factor by TensorFlow Lite's rule, in Python's whole numbers: any Python integer is exact."""
    fraction, shift = math.frexp(factor)
    q = math.floor(fraction * 2**31 + 0.5)
    if q == 2**31:
        q, shift = q // 2, shift + 1
    high = (total * 2 ** max(shift, 0) * q + 2**30) >> 31
    right = max(-shift, 0)
    half = 2**right >> 1
    return (high + half) >> right if high >= 0 else -((half - high) >> right)


def requantized(y, input, weights, output, rounding, clamp=None):
    """Numbers of 8 bits from sums."""
    scales = np.broadcast_to(np.asarray(weights.scales, np.float32), y.shape[1])
    sx, sy = np.float32(input.scale), np.float32(output.scale)
    result = np.empty_like(y)
    for channel, sw in enumerate(scales):
        if rounding == "nearest_even":
            result[:, channel] = np.rint(y[:, channel].astype(np.float32) * (sx * sw / sy))
        else:
            product = float(sx * sw) if rounding == "tflite_legacy" else float(sx) * float(sw)
            factor = product / float(sy)
            result[:, channel] = np.vectorize(lambda total: fixed(int(total), factor))(y[:, channel])
    low, high = clamp or (-(2**31), 2**31 - 1)
    least = LEAST[output.dtype]
    result = np.clip(result + output.zero_point, max(low, least), min(high, least + 255))
    return result.astype(output.dtype)


def weights(shape, dtype="int8", per_output=True):
    fan_in = math.prod(shape[1:])
    scales = 0.02 / math.sqrt(fan_in) * (1 + RANDOM.random(shape[0] if per_output else 1))
    return Weights(numbers(dtype, *shape), scales.astype(np.float32), 121 if dtype == "uint8" else 0)


def channels_last(x):
    return np.ascontiguousarray(x.transpose(0, 2, 3, 1))


CASES = [
    pytest.param(int8.DepthwiseConv2d, (70, 1, 3, 3), {}, {"groups": 70, "padding": (1, 1, 1, 1)}, id="depthwise"),
    pytest.param(
        int8.DepthwiseConv2d,
        (16, 1, 5, 5),
        {"channel_multiplier": 2, "stride": 2, "padding": 2},
        {"groups": 8, "stride": (2, 2), "padding": (2, 2, 2, 2)},
        id="multiplier",
    ),
    pytest.param(
        int8.DepthwiseConv2d,
        (9, 1, 3, 3),
        {"dilation": (2, 1), "padding": "valid"},
        {"groups": 9, "dilation": (2, 1)},
        id="dilation",
    ),
    pytest.param(int8.PointwiseConv2d, (33, 20, 1, 1), {}, {}, id="pointwise"),
    pytest.param(int8.Conv2d, (6, 8, 3, 3), {"stride": (2, 1)}, {"stride": (2, 1), "padding": (1, 1, 1, 1)}, id="standard"),
]


@pytest.mark.parametrize(("plan_of", "shape", "keywords", "window"), CASES)
@pytest.mark.parametrize("rounding", RULES)
def test_each_operation_gives_the_bits_of_the_definition(plan_of, shape, keywords, window, rounding):
    for input_dtype, output_dtype, weights_dtype in [
        ("uint8", "uint8", "int8"),
        ("int8", "int8", "int8"),
        ("uint8", "int8", "uint8"),
        ("int8", "uint8", "uint8"),
        ("int8", "int32", "int8"),
        ("uint8", "int32", "uint8"),
    ]:
        w = weights(shape, weights_dtype, per_output=weights_dtype == "int8")
        bias = RANDOM.integers(-20_000, 20_000, shape[0])
        groups = window.get("groups", 1)
        x = numbers(input_dtype, 2, shape[1] * groups, 11, 10)
        input = Quantized(input_dtype, 0.05, LEAST[input_dtype] + 130)
        expected = sums(x, input.zero_point, w, bias=bias, **window)
        if output_dtype == "int32":
            output, clamp, expected = "int32", None, expected.astype(np.int32)
        else:
            output = Quantized(output_dtype, 0.1, LEAST[output_dtype] + 100)
            clamp = (output.zero_point, LEAST[output_dtype] + 230) if weights_dtype == "uint8" else None
            expected = requantized(expected, input, w, output, rounding, clamp)
        for layout in ["nchw", "nhwc"]:
            plan = plan_of(
                w, input=input, output=output, rounding=rounding, bias=bias, clamp=clamp, layout=layout, **keywords
            )
            arranged = channels_last if layout == "nhwc" else np.ascontiguousarray
            read, wanted = arranged(x), arranged(expected)
            assert plan.output_shape(read.shape) == wanted.shape
            assert (plan.layout, plan.input_dtype, plan.dtype) == (layout, input_dtype, output_dtype)
            for threads in [1, 2]:
                y = plan(read, threads=threads)
                assert y.dtype == wanted.dtype and np.array_equal(y, wanted)
            out = np.empty_like(wanted)
            assert plan(read, out=out) is out and np.array_equal(out, wanted)


@pytest.mark.parametrize("rounding", RULES)
def test_separable_is_the_two_one_after_the_other(rounding):
    first, second = weights((40, 1, 3, 3)), weights((9, 40))
    input, between, output = Quantized("int8", 0.05, -3), Quantized("int8", 0.1, -128), Quantized("uint8", 0.1, 120)
    of_first, of_second = RANDOM.integers(-9000, 9000, 40), RANDOM.integers(-9000, 9000, 9).tolist()
    plan = int8.SeparableConv2d(
        first, second, input=input, between=between, output=output, rounding=rounding, channel_multiplier=2, stride=2,
        depthwise_bias=of_first, depthwise_clamp=(-128, 90), bias=of_second, layout="nhwc",
    )  # fmt: skip
    x = numbers("int8", 1, 20, 13, 12)
    middle = sums(x, -3, first, groups=20, stride=(2, 2), padding=(1, 1, 1, 1), bias=of_first)
    middle = requantized(middle, input, first, between, rounding, (-128, 90))
    matrix = Weights(second.values[:, :, None, None], second.scales)
    expected = requantized(sums(middle, -128, matrix, bias=of_second), between, second, output, rounding)
    assert np.array_equal(plan(channels_last(x)), channels_last(expected))
    assert plan.isa in ["portable", "avx2", "avx512", "avx512vnni", "neon"]


def test_parts_of_arrays_are_read_and_written_where_they_are():
    w = Weights(np.eye(4, dtype=np.int8), 1.0)
    plan = int8.PointwiseConv2d(w, input=Quantized(np.uint8, 1, 0), output=Quantized(np.dtype("uint8"), 1, 0), layout="nhwc")
    x, y = numbers("uint8", 1, 6, 6, 8), np.zeros((1, 3, 3, 9), np.uint8)
    plan(x[:, ::2, ::2, 2:6], out=y[..., 5:])
    assert np.array_equal(y[..., 5:], x[:, ::2, ::2, 2:6]) and not y[..., :5].any()


def test_plans_are_copied_as_themselves_and_not_pickled():
    plan = int8.PointwiseConv2d(
        Weights(np.ones((1, 1), np.int8), 1), input=Quantized("int8", 1, 0), output="int32"
    )
    assert copy.copy(plan) is plan and copy.deepcopy(plan) is plan and isinstance(plan, int8.Plan)
    assert repr(plan).startswith("<depthwise ")
    with pytest.raises(TypeError, match="cannot be pickled"):
        pickle.dumps(plan)


W = Weights(np.ones((2, 1, 3, 3), np.int8), [0.5, 0.25])


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"input": Quantized("uint8", -1.0, 0)}, "-1"),
        ({"input": Quantized("uint8", 0.5, 256)}, "256"),
        ({"input": Quantized("uint8", 0.5, 1.5)}, "the zero point of `input` is 1.5"),
        ({"input": Quantized("float32", 0.5, 0)}, '`input` has elements of float32: they must be "uint8" or "int8"'),
        ({"input": 3}, r"`input` must be \(dtype, scale, zero_point\)"),
        ({"output": "int16"}, 'or output is "int32", for the sums'),
        ({"output": Quantized("int8", float("nan"), 0)}, "NaN"),
        ({"rounding": "up"}, 'there is no rounding "up"'),
        ({"clamp": (5, 4)}, "5"),
        ({"clamp": 5}, r"the clamp must be \(low, high\)"),
        ({"bias": [1, 2, 3]}, "3 elements were given for the depthwise bias, but 2 are needed"),
        ({"bias": [1.5, 2]}, "the bias must be whole numbers of 32 bits"),
        ({"bias": [2**31, 0]}, "the bias must be whole numbers of 32 bits"),
        ({"bias": [2**31 - 1, 0]}, "channel 0"),
        ({"layout": "chwn"}, "chwn"),
        ({"isa": "sse9"}, "sse9"),
        ({"stride": 0}, "stride"),
        ({"channel_multiplier": 3}, "no multiple of the channel multiplier, 3"),
        ({"weights": W.values}, r"the weights must be \(values, scales, zero_point\)"),
        ({"weights": Weights(W.values.astype(float), 1)}, "the weights are float64: they must be int8 or uint8"),
        ({"weights": Weights(W.values, [1, 2, 3])}, "one, or one for each of 2 output channels"),
        ({"weights": Weights(W.values, [1, 0])}, "scale"),
        ({"weights": Weights(W.values, 1, 200)}, "200"),
        ({"weights": Weights(W.values[:, 0], 1)}, "four axes are needed"),
    ],
)
def test_what_is_wrong_is_a_sentence(change, sentence):
    keywords = {"input": Quantized("uint8", 0.5, 128), "output": Quantized("uint8", 1.0, 0), **change}
    with pytest.raises(ValueError, match=sentence):
        int8.DepthwiseConv2d(keywords.pop("weights", W), **keywords)


def test_arrays_that_do_not_fit_are_refused():
    plan = int8.DepthwiseConv2d(W, input=Quantized("uint8", 0.5, 128), output="int32")
    x = np.zeros((1, 2, 4, 4), np.uint8)
    with pytest.raises(ValueError, match="the elements of the input are int8, but the plan takes uint8"):
        plan(x.astype(np.int8))
    with pytest.raises(ValueError, match="the elements of the output are uint8, but the plan takes int32"):
        plan(x, out=x)
    with pytest.raises(ValueError, match="the input has 3 channels, but the plan was built for 2"):
        plan(np.zeros((1, 3, 4, 4), np.uint8))
    with pytest.raises(ValueError, match="the output has shape"):
        plan(x, out=np.zeros((1, 2, 4, 5), np.int32))
    with pytest.raises(ValueError, match="must have stride 1 along its width, but it has 2"):
        plan(np.zeros((1, 2, 4, 8), np.uint8)[..., ::2])
