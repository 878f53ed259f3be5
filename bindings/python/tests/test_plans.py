"""Plans over arrays of numpy: what they compute, where they read and write, what they refuse."""

import copy
import os
import pickle
import threading

import numpy as np
import pytest

import depthwise
from oracle import conv2d

RANDOM = np.random.default_rng(7)


def random(*shape):
    return RANDOM.standard_normal(shape, dtype=np.float32)


def close(y, expected, terms):
    """To within the rounding of sums of so many terms."""
    assert y.dtype == np.float32 and y.shape == expected.shape
    np.testing.assert_allclose(y, expected, rtol=0, atol=(terms + 2) * 2.0**-22 * np.abs(expected).max())


@pytest.mark.parametrize(
    ("weights", "keywords", "window"),
    [
        pytest.param((8, 1, 3, 3), {"groups": 8}, {"padding": (1, 1, 1, 1)}, id="depthwise"),
        pytest.param((16, 1, 5, 5), {"groups": 8, "stride": 2, "padding": 2}, {"stride": (2, 2), "padding": (2, 2, 2, 2)}, id="multiplier"),
        pytest.param((5, 8, 1, 1), {}, {}, id="pointwise"),
        pytest.param((5, 8, 1, 1), {"stride": 2, "padding": 0}, {"stride": (2, 2)}, id="pointwise-strided"),
        pytest.param((6, 8, 3, 3), {"stride": (2, 1)}, {"stride": (2, 1), "padding": (1, 1, 1, 1)}, id="standard"),
        pytest.param((6, 8, 3, 2), {"padding": (0, 1, 2, 0)}, {"padding": (0, 1, 2, 0)}, id="even-kernel"),
        pytest.param((8, 1, 3, 3), {"groups": 8, "dilation": (2, 1), "padding": "valid"}, {"dilation": (2, 1)}, id="dilation"),
        pytest.param((8, 1, 3, 3), {"groups": 8, "stride": 2, "padding": "same"}, {"stride": (2, 2), "padding": (1, 0, 1, 1)}, id="same"),
    ],
)
@pytest.mark.parametrize("layout", ["nchw", "nhwc"])
def test_conv2d_computes_any_convolution(weights, keywords, window, layout):
    w, bias, x = random(*weights), random(weights[0]), random(2, 8, 11, 10)
    expected = conv2d(x, w, groups=keywords.get("groups", 1), bias=bias, **window)
    plan = depthwise.Conv2d(w, bias=bias, layout=layout, **keywords)
    if layout == "nhwc":
        x, expected = np.ascontiguousarray(x.transpose(0, 2, 3, 1)), expected.transpose(0, 2, 3, 1)
    y = plan(x)
    close(y, expected, w[0].size)
    assert y.flags.c_contiguous
    assert plan.output_shape(x.shape) == y.shape
    assert (plan.layout, plan.dtype) == (layout, "float32")


def test_each_operation_has_a_class_and_the_bits_of_conv2d():
    w, p, x = random(8, 1, 3, 3), random(5, 8), random(1, 8, 9, 9)
    depthwise_plan = depthwise.DepthwiseConv2d(w, activation="relu6")
    pointwise_plan = depthwise.PointwiseConv2d(p, bias=[1, 2, 3, 4, 5])
    middle = depthwise_plan(x)
    y = pointwise_plan(middle)
    assert np.array_equal(middle, depthwise.Conv2d(w, groups=8, activation="relu6")(x))
    assert np.array_equal(y, depthwise.Conv2d(p[:, :, None, None], bias=[1, 2, 3, 4, 5])(middle))
    for fusion in ["auto", "fused", "two_pass"]:
        separable = depthwise.SeparableConv2d(w, p, depthwise_activation="relu6", bias=[1, 2, 3, 4, 5], fusion=fusion)
        assert np.array_equal(separable(x), y)
    assert all(isinstance(plan, depthwise.Plan) for plan in [depthwise_plan, pointwise_plan, separable])
    doubled = depthwise.SeparableConv2d(random(16, 1, 3, 3), random(5, 16), channel_multiplier=2)
    assert doubled(x).shape == (1, 5, 9, 9)


@pytest.mark.parametrize(
    ("activation", "expected"),
    [
        (None, lambda x: x),
        ("none", lambda x: x),
        ("relu", lambda x: np.maximum(x, 0)),
        ("relu6", lambda x: np.clip(x, 0, 6)),
        ("hardswish", lambda x: x * np.clip(x + 3, 0, 6) / 6),
        ("hardsigmoid", lambda x: np.clip(x + 3, 0, 6) / 6),
        ("sigmoid", lambda x: 1 / (1 + np.exp(-x))),
        ("silu", lambda x: x / (1 + np.exp(-x))),
        ("mish", lambda x: x * np.tanh(np.log1p(np.exp(x)))),
        ("tanh", np.tanh),
        (("clamp", -1.0, 2.5), lambda x: np.clip(x, -1, 2.5)),
        (("leaky_relu", 0.1), lambda x: np.where(x < 0, 0.1 * x, x)),
    ],
)
def test_activations(activation, expected):
    x = np.linspace(-9, 9, 64, dtype=np.float32).reshape(1, 1, 8, 8)
    y = depthwise.PointwiseConv2d([[1.0]], activation=activation)(x)
    np.testing.assert_allclose(y, expected(x.astype(np.float64)), rtol=2e-6, atol=2e-6)


def test_gelu_is_the_exact_one():
    y = depthwise.PointwiseConv2d([[1.0]], activation="gelu")(np.full((1, 1, 1, 1), 1.5, np.float32))
    np.testing.assert_allclose(y.item(), 1.3997891, rtol=1e-6)


def test_batch_norm_is_folded():
    w, x = random(4, 1, 3, 3), random(1, 4, 6, 6)
    norm = depthwise.BatchNorm(random(4), random(4), random(4), np.abs(random(4)) + 0.5, 1e-3)
    y = depthwise.Conv2d(w, groups=4, bias=[1, 2, 3, 4], batch_norm=norm)(x)
    plain = conv2d(x, w, groups=4, padding=(1, 1, 1, 1), bias=[1, 2, 3, 4])
    gamma, beta, mean, variance = (np.asarray(each, np.float64)[:, None, None] for each in norm[:4])
    close(y, (plain - mean) / np.sqrt(variance + 1e-3) * gamma + beta, 40)
    assert np.array_equal(y, depthwise.Conv2d(w, groups=4, bias=[1, 2, 3, 4], batch_norm=tuple(norm))(x))


def test_a_residual_is_added_before_the_activation():
    w, x, r = random(5, 8), random(1, 8, 4, 4), random(1, 5, 4, 4)
    y = depthwise.PointwiseConv2d(w, activation="relu")(x, residual=r)
    close(y, np.maximum(conv2d(x, w[:, :, None, None]) + r, 0), 9)


def test_arrays_are_read_and_written_where_they_are():
    w = random(6, 1, 3, 3)
    plan = depthwise.DepthwiseConv2d(w, layout="nhwc")
    whole = random(2, 12, 20, 10)
    part = whole[1:, 2:10:2, 3:18:3, 4:]  # channels are neighbours, all else has strides
    out = np.full((1, 9, 11, 8), 7, np.float32)
    inner = out[:, 2:6, 3:8, 1:7]
    expected = plan(np.ascontiguousarray(part))
    assert plan(part, out=inner) is inner
    assert np.array_equal(inner, expected)
    outside = np.ones(out.shape, bool)
    outside[:, 2:6, 3:8, 1:7] = False
    assert (out[outside] == 7).all()
    # One image for all of a batch.
    batch = np.broadcast_to(part, (3, *part.shape[1:]))
    assert np.array_equal(plan(batch), np.concatenate([expected] * 3))
    # What is not aligned to the crate's vectors.
    raw = np.zeros(part.size * 4 + 4, np.uint8)[4:].view(np.float32).reshape(part.shape)
    raw[...] = part
    assert np.array_equal(plan(raw), expected)


@pytest.mark.parametrize("layout", ["nchw", "nhwc"])
def test_the_bits_depend_on_nothing(layout):
    x = random(1, 64, 64, 64)
    keywords = {"depthwise_activation": "relu6", "activation": "relu6", "layout": layout}
    weights = random(64, 1, 3, 3), random(64, 64)
    plan = depthwise.SeparableConv2d(*weights, **keywords)
    y = plan(x)
    for threads in [2, 3]:
        assert np.array_equal(plan(x, threads=threads), y)
    fused = [isa for isa in depthwise.isas() if isa != "portable"]
    for isa in fused:
        other = depthwise.SeparableConv2d(*weights, **keywords, isa=isa)
        assert other.isa == isa
        assert np.array_equal(other(x), y)


def test_half_precision_is_storage():
    w, x = random(4, 1, 3, 3), random(1, 4, 6, 6).astype(np.float16)
    plan = depthwise.Conv2d(w, groups=4, dtype=np.float16)
    y = plan(x)
    assert (y.dtype, plan.dtype) == (np.float16, "float16")
    assert np.array_equal(y, depthwise.Conv2d(w, groups=4)(x.astype(np.float32)).astype(np.float16))
    assert np.array_equal(depthwise.Conv2d(w, groups=4, dtype="float16")(x), y)
    assert np.array_equal(depthwise.Conv2d(w, groups=4, dtype=x.dtype)(x), y)


def test_bfloat16_needs_ml_dtypes():
    try:
        import ml_dtypes
    except ImportError:
        with pytest.raises(ValueError, match="arrays of bfloat16 need the package ml_dtypes"):
            depthwise.PointwiseConv2d([[1.0]], dtype="bfloat16")
        return
    x = np.array([1, 2, 3, 259], ml_dtypes.bfloat16).reshape(1, 1, 2, 2)
    y = depthwise.PointwiseConv2d([[0.3]], dtype=ml_dtypes.bfloat16)(x)
    assert y.dtype == ml_dtypes.bfloat16
    expected = (np.float32(0.3) * x.astype(np.float32)).astype(ml_dtypes.bfloat16)
    assert np.array_equal(y.astype(np.float32), expected.astype(np.float32))


def test_empty_batches():
    y = depthwise.DepthwiseConv2d(random(4, 1, 3, 3))(np.empty((0, 4, 5, 5), np.float32))
    assert y.shape == (0, 4, 5, 5)
    with pytest.raises(ValueError, match="the input has 3 channels"):
        depthwise.DepthwiseConv2d(random(4, 1, 3, 3))(np.empty((0, 3, 5, 5), np.float32))


def test_nan_propagates():
    x = np.zeros((1, 1, 5, 5), np.float32)
    x[0, 0, 2, 2] = np.nan
    y = depthwise.DepthwiseConv2d(np.ones((1, 1, 3, 3)), activation="relu6")(x)
    assert np.isnan(y).sum() == 9


def test_threads_of_python_run_a_plan_side_by_side():
    plan = depthwise.SeparableConv2d(random(32, 1, 3, 3), random(32, 32))
    inputs = [random(1, 32, 40, 40) for _ in range(4)]
    expected = [plan(x) for x in inputs]
    found = [None] * 4

    def work(i):
        for _ in range(10):
            found[i] = plan(inputs[i], threads=1 + i % 2)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(np.array_equal(a, b) for a, b in zip(found, expected))


def test_the_interpreter_goes_on_meanwhile():
    plan = depthwise.Conv2d(random(64, 64, 3, 3))
    x = random(4, 64, 96, 96)
    done, counted = threading.Event(), 0

    def work():
        plan(x)
        done.set()

    thread = threading.Thread(target=work)
    thread.start()
    while not done.is_set():
        counted += 1
    thread.join()
    # With the lock held, the count would stand still from the start of the run to its end.
    assert counted > 100


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_process_has_threads_of_its_own():
    plan = depthwise.SeparableConv2d(random(64, 1, 3, 3), random(64, 64))
    x = random(1, 64, 64, 64)
    y = plan(x, threads=2)
    child = os.fork()
    if child == 0:
        os._exit(0 if np.array_equal(plan(x, threads=2), y) else 1)
    assert os.waitpid(child, 0)[1] == 0


def test_plans_copy_as_themselves_and_do_not_pickle():
    plan = depthwise.PointwiseConv2d([[1.0]])
    assert copy.copy(plan) is plan
    assert copy.deepcopy([plan])[0] is plan
    with pytest.raises(TypeError, match="send the weights, and build the plan where it runs"):
        pickle.dumps(plan)


def test_descriptions():
    plan = depthwise.Conv2d(random(32, 1, 3, 3), groups=32, layout="nhwc")
    assert "DepthwiseConv2d" in repr(plan)
    assert f"dw_f32_nhwc_3x3" in depthwise.DepthwiseConv2d(random(32, 1, 3, 3), layout="nhwc").describe((1, 56, 56, 32))
    assert plan.describe((1, 56, 56, 32), threads=2)
    assert plan.isa == depthwise.isas()[-1] or os.environ.get("DEPTHWISE_ISA")
    assert depthwise.machine()
    assert depthwise.__version__.count(".") == 2


POINT = [[1.0, 2.0]]


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: depthwise.Conv2d(random(8, 2, 3, 3), groups=4), "groups 4 of 8 inputs and 8 outputs: a plan computes 1 group"),
        (lambda: depthwise.Conv2d(random(8, 2, 3)), r"the weights have shape \[8, 2, 3\], but four axes are needed"),
        (lambda: depthwise.Conv2d("abc"), "the weights must be an array of numbers"),
        (lambda: depthwise.Conv2d(random(8, 2, 2, 2)), "no padding was given, and along the height"),
        (lambda: depthwise.Conv2d(random(8, 2, 3, 3), stride=0), "stride"),
        (lambda: depthwise.Conv2d(random(8, 2, 3, 3), stride=-1), "the stride is -1: it must be a whole number, 0 or above"),
        (lambda: depthwise.Conv2d(random(8, 2, 3, 3), stride=(1, "a")), "the stride is 'a'"),
        (lambda: depthwise.Conv2d(random(8, 2, 3, 3), padding="sam"), 'there is no padding "sam": use "same"'),
        (lambda: depthwise.Conv2d(random(8, 2, 3, 3), activation="rely"), "there is no activation 'rely': use"),
        (lambda: depthwise.Conv2d(random(8, 2, 3, 3), activation=("clamp", 1, 0)), "cannot clamp to 1 ..= 0"),
        (lambda: depthwise.Conv2d(random(8, 2, 3, 3), layout="nwhc"), "there is no layout `nwhc`: use nchw or nhwc"),
        (lambda: depthwise.Conv2d(random(8, 2, 3, 3), isa="sse2"), "there is no instruction set `sse2`"),
        (lambda: depthwise.Conv2d(random(8, 2, 3, 3), dtype="int8"), "there is no plan for elements of int8"),
        (lambda: depthwise.Conv2d(random(8, 2, 3, 3), bias=[1, 2]), "2 elements were given for the bias, but 8 are needed"),
        (lambda: depthwise.DepthwiseConv2d(random(8, 2, 3, 3)), "the second axis must be 1"),
        (lambda: depthwise.DepthwiseConv2d(random(8, 1, 3, 3), channel_multiplier=3), "8 outputs, which is no multiple of the channel multiplier, 3"),
        (lambda: depthwise.DepthwiseConv2d(random(8, 1, 3, 3), channel_multiplier=0), "no multiple of the channel multiplier, 0"),
        (lambda: depthwise.PointwiseConv2d(random(8, 2, 3, 3)), r"\(outputs, inputs\) or \(outputs, inputs, 1, 1\) is needed"),
        (lambda: depthwise.PointwiseConv2d(POINT, batch_norm=(1, 2)), "the batch norm must be .gamma, beta, mean, variance, epsilon."),
        (lambda: depthwise.PointwiseConv2d(POINT, batch_norm=([1], [0], [0], [-1], 0.0)), "variance of channel 0 is -1"),
        (lambda: depthwise.SeparableConv2d(random(8, 1, 3, 3), random(4, 9)), "8 outputs, but the pointwise weights 9 inputs"),
        (lambda: depthwise.SeparableConv2d(random(8, 1, 3, 3), random(4, 8), fusion="no"), 'there is no fusion "no"'),
    ],
)
def test_what_a_plan_cannot_be(build, message):
    with pytest.raises(ValueError, match=message):
        build()


def swapped(x):
    return x.astype(x.dtype.newbyteorder())


def unaligned(x):
    raw = np.zeros(x.nbytes + 1, np.uint8)[1:].view(np.float32).reshape(x.shape)
    raw[...] = x
    return raw


@pytest.mark.parametrize(
    ("run", "message"),
    [
        (lambda plan, x: plan(x[:, :1]), "the input has 1 channels, but the plan was built for 2"),
        (lambda plan, x: plan(x[0]), "the input has 3 axes, but a plan for nchw takes four: images, channels, rows, columns"),
        (lambda plan, x: plan(x.astype(np.float64)), "the elements of the input are float64, but the plan takes float32"),
        (lambda plan, x: plan(swapped(x)), "but the plan takes float32"),
        (lambda plan, x: plan(x.tolist()), "the input is of type list, but it must be an array of numpy"),
        (lambda plan, x: plan(x[:, :, :, ::2]), "the input of a plan for nchw must have stride 1 along its width, but it has 2"),
        (lambda plan, x: plan(x[:, :, ::-1]), "an axis of the array has stride -4: copy the array"),
        (lambda plan, x: plan(unaligned(x)), "the elements of the input do not lie at multiples of 4 bytes"),
        (lambda plan, x: plan(x, residual=x), "the residual has shape n=1 c=2 h=4 w=4, but this run needs n=1 c=1 h=4 w=4"),
        (lambda plan, x: plan(x, out=np.empty((1, 1, 4, 5), np.float32)), "the output has shape n=1 c=1 h=4 w=5"),
        (lambda plan, x: plan(x, out=x[:, :1]), "the output shares memory with the input"),
        (lambda plan, x: plan(x, residual=x[:, :1], out=x[:, :1]), "the output shares memory with the input"),
        (lambda plan, x: plan(x, out=np.broadcast_to(np.float32(0), (1, 1, 4, 4))), "the output is an array that may not be written"),
        (lambda plan, x: plan(x, threads=0), "threads is 0: it must be at least 1"),
        (lambda plan, x: plan(x, threads=-2), "threads is -2: it must be a whole number, 0 or above"),
        (lambda plan, x: plan(x, threads=10**6), "threads is 1000000: it must be at most 1024"),
        (lambda plan, x: plan.output_shape((1, 3, 4, 4)), "the input has 3 channels"),
        (lambda plan, x: plan.describe((1, 3, 4, 4)), "the input has 3 channels"),
    ],
)
def test_what_a_run_refuses(run, message):
    plan, x = depthwise.PointwiseConv2d(POINT), random(1, 2, 4, 4)
    before = x.copy()
    with pytest.raises(ValueError, match=message):
        run(plan, x)
    assert np.array_equal(x, before)


def test_an_output_that_overlaps_itself():
    base = np.zeros(16, np.float32)
    out = np.lib.stride_tricks.as_strided(base, (1, 1, 4, 4), (64, 64, 8, 4))
    with pytest.raises(ValueError, match="has two elements at the same place"):
        depthwise.PointwiseConv2d(POINT)(random(1, 2, 4, 4), out=out)


def test_the_environment_chooses_the_instruction_set(monkeypatch):
    monkeypatch.setenv("DEPTHWISE_ISA", "portable")
    assert depthwise.PointwiseConv2d(POINT).isa == "portable"
    monkeypatch.setenv("DEPTHWISE_ISA", "mmx")
    with pytest.raises(ValueError, match="which the environment variable DEPTHWISE_ISA asks for"):
        depthwise.PointwiseConv2d(POINT)
