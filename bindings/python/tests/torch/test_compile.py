"""Under ``torch.compile`` and ``torch.export``: the same results, no break of the graph, programs that can be saved."""

import io

import networks
import pytest
import torch
from networks import scatter

from depthwise.torch import optimize
from depthwise.torch._operator import PACKED, Stages


def agree(found, expected):
    assert (found.dtype, found.shape) == (expected.dtype, expected.shape)
    assert (found - expected).abs().max() <= 1e-5 * expected.abs().max()


@pytest.mark.parametrize("make", [networks.MobileNetV1, networks.mobilenet_v3, networks.efficientnet_lite0, networks.ResNet])
@pytest.mark.parametrize("channels_last", [False, True])
def test_compile(make, channels_last):
    torch.compiler.reset()
    model, x = scatter(make()), torch.randn(2, 3, 48, 48)
    if channels_last:
        model, x = model.to(memory_format=torch.channels_last), x.to(memory_format=torch.channels_last)
    fast = optimize(model)
    expected = fast(x)
    compiled = torch.compile(fast, fullgraph=True)
    agree(compiled(x), expected)
    # Plans are packed once, not at each call.
    plans = [id(packed.plan) for packed in PACKED.values()]
    agree(compiled(x), expected)
    assert [id(packed.plan) for packed in PACKED.values()] == plans
    agree(compiled(torch.cat([x, x])), torch.cat([expected, expected]))


def test_compile_in_inference_mode():
    torch.compiler.reset()
    fast, x = optimize(scatter(networks.efficientnet_lite0())), torch.randn(1, 3, 48, 48)
    expected = fast(x)
    with torch.inference_mode():
        assert torch.equal(fast(x), expected)
        agree(torch.compile(fast, fullgraph=True)(x), expected)


def test_export_is_saved_and_loaded():
    model, x = scatter(networks.mobilenet_v3()), torch.randn(1, 3, 48, 48)
    fast = optimize(model)
    program = torch.export.export(fast, (x,))
    names = [str(node.target) for node in program.graph.nodes]
    assert names.count("depthwise.conv2d.default") == len(fast.depthwise_report.replaced)
    file = io.BytesIO()
    torch.export.save(program, file)
    file.seek(0)
    expected = fast(x)
    del fast, program
    loaded = torch.export.load(file).module()
    assert torch.equal(loaded(x), expected)


def test_the_operator_is_one():
    """PyTorch's own checks: the schema, the shapes and strides of the fake, that it can be traced."""
    conv = torch.nn.Conv2d(4, 6, 3, stride=2, padding=1)
    fast = optimize(torch.nn.Sequential(conv).eval())
    stages = fast.__dict__["forward"].__self__.graph.get_submodule("depthwise_0").stages
    weight, bias = conv.weight.detach(), conv.bias.detach()
    assert Stages.parse(stages).text() == stages
    for last in [False, True]:
        for shape in [(2, 4, 9, 8), (1, 4, 3, 3)]:
            x = torch.randn(shape)
            y = torch.ops.depthwise.conv2d(x, None, [weight, bias], stages, last)
            for residual in [None, torch.randn_like(y)]:
                torch.library.opcheck(torch.ops.depthwise.conv2d.default, (x, residual, [weight, bias], stages, last))


def test_what_does_not_fit_is_a_value_error():
    conv = torch.nn.Conv2d(4, 6, 3)
    fast = optimize(torch.nn.Sequential(conv).eval())
    stages = fast.__dict__["forward"].__self__.graph.get_submodule("depthwise_0").stages
    parameters = [conv.weight.detach(), conv.bias.detach()]
    with pytest.raises(ValueError, match="the kernel spans 3 along the h"):
        torch.ops.depthwise.conv2d(torch.randn(1, 4, 2, 8), None, parameters, stages, False)
    with pytest.raises(ValueError, match="the input has 3 channels, but the plan was built for 4"):
        torch.ops.depthwise.conv2d(torch.randn(1, 3, 8, 8), None, parameters, stages, False)
    with pytest.raises(ValueError, match="a parameter is torch.float64 on cpu"):
        torch.ops.depthwise.conv2d(torch.randn(1, 4, 8, 8), None, [each.double() for each in parameters], stages, False)
