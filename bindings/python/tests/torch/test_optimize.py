"""Networks give the same results once optimised; what plans compute of them; what is left alone."""

import copy
import gc
import io
import pickle

import networks
import pytest
import torch
import torch.nn.functional as F
from networks import conv_bn, scatter
from torch import nn

import depthwise.torch
from depthwise.torch import FusedConv2d, optimize
from depthwise.torch._operator import PACKED


def agree(found, expected):
    assert (found.dtype, found.shape) == (expected.dtype, expected.shape)
    assert (found - expected).abs().max() <= 1e-5 * expected.abs().max()


def fused(module):
    """The modules with plans in what the module's forward has become."""
    return [part for part in module.__dict__["forward"].__self__.graph.modules() if isinstance(part, FusedConv2d)]


ALL = {
    # Convolutions, modules with plans.
    "mobilenet_v1": (networks.MobileNetV1, 11, 6),
    "mobilenet_v3": (networks.mobilenet_v3, 24, 20),
    "efficientnet_lite0": (networks.efficientnet_lite0, 17, 12),
    "resnet": (networks.ResNet, 5, 5),
}


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("channels_last", [False, True])
def test_networks(name, channels_last):
    make, convolutions, plans = ALL[name]
    model, x = scatter(make()), torch.randn(2, 3, 64, 64)
    if channels_last:
        model, x = model.to(memory_format=torch.channels_last), x.to(memory_format=torch.channels_last)
    expected = model(x)
    fast = optimize(model)
    agree(fast(x), expected)
    assert type(fast) is type(model)
    assert not fast.depthwise_report.kept, str(fast.depthwise_report)
    assert sum(len(entry.name.split(" + ")) for entry in fast.depthwise_report.replaced) == convolutions
    assert len(fused(fast)) == plans == len(fast.depthwise_report.replaced)
    # Nothing is left of what the plans took over.
    left = [type(part) for part in fast.__dict__["forward"].__self__.graph.modules()]
    assert not {nn.Conv2d, nn.BatchNorm2d, nn.ReLU, nn.ReLU6} & set(left)
    # The original is as it was.
    assert torch.equal(model(x), expected)
    assert "forward" not in model.__dict__


def test_the_report_names_what_was_taken_over():
    fast = optimize(scatter(networks.efficientnet_lite0()))
    lines = str(fast.depthwise_report).splitlines()
    assert lines[0] == "0.0: by a plan: standard 3×3, 3 to 32, batch norm, relu6"
    assert "3.depthwise.0 + 3.project.0: by a plan: depthwise 3×3, 144 to 144, batch norm, relu6; " + (
        "pointwise 1×1, 144 to 24, batch norm, residual"
    ) in lines
    assert lines[-1] == "12 by a plan, 0 kept"


ACTIVATIONS = [
    nn.ReLU(), nn.ReLU6(), nn.Hardswish(), nn.Hardsigmoid(), nn.SiLU(), nn.Sigmoid(), nn.Mish(), nn.Tanh(), nn.GELU(),
    nn.LeakyReLU(0.2), nn.Hardtanh(-2.0, 3.0), F.relu, F.relu6, F.hardswish, F.hardsigmoid, F.silu, torch.sigmoid, F.mish,
    torch.tanh, F.gelu, F.leaky_relu, F.hardtanh, lambda x: F.relu(x, inplace=True), lambda x: F.leaky_relu(x, 0.3, True),
    lambda x: F.leaky_relu(x, negative_slope=0.3), lambda x: F.hardtanh(x, -2, 0.5), lambda x: F.hardtanh(x, max_val=0.5),
    lambda x: x.clamp(0, 6), lambda x: x.clamp(min=-1.0, max=1.0), lambda x: torch.clamp(x, -0.5, 0.5), lambda x: x.relu(),
    lambda x: x.relu_(), lambda x: x.sigmoid(), lambda x: x.tanh(),
]  # fmt: skip


class Then(nn.Module):
    """A convolution, and a function or module on its result."""

    def __init__(self, then, **options):
        super().__init__()
        self.conv = nn.Conv2d(4, 4, 3, padding=1, groups=4, **options)
        self.then = then

    def forward(self, x):
        return self.then(self.conv(x))


@pytest.mark.parametrize("number", range(len(ACTIVATIONS)))
def test_activations_are_taken_over(number):
    model, x = Then(ACTIVATIONS[number]).eval(), torch.randn(1, 4, 8, 8) * 4
    fast = optimize(model)
    agree(fast(x), model(x))
    [plan] = fused(fast)
    assert plan.convolutions[0].activation != "none"


@pytest.mark.parametrize(
    "then",
    [
        lambda x: F.gelu(x, approximate="tanh"), nn.GELU("tanh"), nn.PReLU(), nn.ELU(), lambda x: x.clamp(min=0), lambda x: x + 1,
        lambda x: F.threshold(x, 0.1, 0.2), lambda x: x * 2, nn.MaxPool2d(2), lambda x: x + x, lambda x: x.add_(x),
        lambda x: torch.add(x, x, alpha=2), lambda x: (x, F.relu(x)), lambda x: (F.relu_(x), x), lambda x: x.clamp(1, 0),
        lambda x: x + x.shape[0], lambda x: x.clamp(torch.zeros(1), torch.ones(1)),
    ],
)  # fmt: skip
def test_what_is_no_activation_of_a_plan_stays(then):
    model, x = Then(then).eval(), torch.randn(1, 4, 8, 8)
    fast = optimize(model)
    found, expected = fast(x), model(x)
    for a, b in zip(*((y if isinstance(y, tuple) else (y,)) for y in (found, expected))):
        agree(a, b)
    assert len(fast.depthwise_report.replaced) == 1


def test_what_is_written_in_between_is_seen():
    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(4, 4, 3, padding=1)
            self.norm = nn.BatchNorm2d(4)
            self.relu = nn.ReLU(inplace=True)

        def forward(self, x):
            y = self.conv(x)
            self.relu(x)  # writes what the convolution has read
            y = self.norm(y)
            x += 1
            return F.relu(y) + x

    model, x = scatter(Model()), torch.randn(1, 4, 8, 8)
    fast = optimize(model)
    agree(fast(x.clone()), model(x.clone()))
    assert len(fast.depthwise_report.replaced) == 1


def test_residuals_of_other_shapes_are_added_all_the_same():
    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(4, 4, 1)

        def forward(self, x):
            return F.relu(self.conv(x) + x[:, :, :1, :1])

    model, x = Model().eval(), torch.randn(2, 4, 8, 8)
    fast = optimize(model)
    agree(fast(x), model(x))
    assert fused(fast)[0].adds_residual


def test_an_addition_in_place_to_something_else_stays():
    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(4, 4, 1)

        def forward(self, x):
            y = x * 1
            z = y
            y += self.conv(x)
            return z

    model, x = Model().eval(), torch.randn(2, 4, 8, 8)
    fast = optimize(model)
    agree(fast(x), model(x))
    assert not fused(fast)[0].adds_residual


@pytest.mark.parametrize(
    ("conv", "why"),
    [
        (nn.Conv2d(8, 8, 3, padding=1, groups=4), "groups 4 of 8 inputs"),
        (nn.Conv2d(8, 8, 3, padding=1, padding_mode="reflect"), "it pads by 'reflect'"),
        (nn.Conv2d(8, 8, 3).double(), "its weights are torch.float64 on cpu"),
        (torch.nn.utils.parametrizations.weight_norm(nn.Conv2d(8, 8, 3)), "ParametrizedConv2d"),
    ],
)
def test_what_no_plan_computes_is_kept(conv, why):
    model = nn.Sequential(conv, nn.ReLU()).eval()
    x = torch.randn(1, 8, 8, 8, dtype=next(model.parameters()).dtype)
    fast = optimize(model)
    assert torch.equal(fast(x), model(x))
    [entry] = fast.depthwise_report.kept
    assert why in entry.what
    assert not fast.depthwise_report.replaced


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel lengths")
def test_paddings_by_name():
    for padding in ["same", "valid"]:
        for kernel in [3, 4]:
            model = nn.Sequential(nn.Conv2d(4, 4, kernel, padding=padding, dilation=(1, 2))).eval()
            x = torch.randn(1, 4, 12, 12)
            fast = optimize(model)
            agree(fast(x), model(x))
            assert fast.depthwise_report.replaced


class Branches(nn.Module):
    """Looks at values, so that it cannot be followed, though its parts can."""

    def __init__(self):
        super().__init__()
        self.blocks = nn.ModuleList([conv_bn(4, 4, 3, groups=4, act=nn.ReLU()), networks.InvertedResidual(4, 8, 4, 3, 1, False, nn.ReLU)])
        self.alone = nn.Conv2d(4, 4, 1)

    def forward(self, x, scale=None):
        for block in self.blocks:
            x = block(x)
        # A part of a block: what the convolution alone computes.
        x = x + self.blocks[0][0](x)
        if x.sum() > 0:
            x = -x
        x = self.alone(x)
        return x if scale is None else x * scale


def test_parts_of_what_cannot_be_followed():
    model, x = scatter(Branches()), torch.randn(1, 4, 8, 8)
    fast = optimize(model)
    agree(fast(x), model(x))
    agree(fast(x, scale=2.0), model(x, scale=2.0))
    assert len(fast.depthwise_report.replaced) == 4
    [entry] = fast.depthwise_report.kept
    assert entry.name == "the module" and "cannot be followed" in entry.what

    outer = nn.Sequential(nn.Conv2d(3, 4, 1), nn.ReLU(), model, nn.Conv2d(4, 2, 1)).eval()
    # Of an outer module that is followed, it is a part that is not.
    class One(Branches):
        def forward(self, x):
            return super().forward(x)

    part = One()
    part.load_state_dict(model.state_dict())
    outer[2] = part.eval()
    x = torch.randn(1, 3, 8, 8)
    fast = optimize(outer)
    agree(fast(x), outer(x))
    assert len(fast.depthwise_report.replaced) == 6
    assert [entry.name for entry in fast.depthwise_report.kept] == ["2"]


def test_tensors_made_on_the_way_are_not_frozen():
    class Noise(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = conv_bn(4, 4, 1)

        def forward(self, x):
            return self.conv(x) + torch.rand(1)

    fast = optimize(scatter(Noise()))
    x = torch.randn(1, 4, 2, 2)
    assert not torch.equal(fast(x), fast(x))
    assert len(fast.depthwise_report.replaced) == 1


def test_attributes_that_change_are_not_frozen():
    class Counts(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = conv_bn(4, 4, 1)
            self.calls = 0

        def forward(self, x):
            self.calls += 1
            return self.conv(x) * self.calls

    model = scatter(Counts())
    fast, x = optimize(model), torch.randn(1, 4, 2, 2)
    start = fast.calls
    for _ in range(2):
        fast(x)
    assert fast.calls == start + 2


def test_hooks_are_called():
    model = scatter(networks.mobilenet_v3())
    seen = []
    model[2].register_forward_hook(lambda module, args, output: seen.append(output))
    fast, x = optimize(model), torch.randn(1, 3, 32, 32)
    expected, found = model(x), fast(x)
    agree(found, expected)
    assert len(seen) == 2
    agree(seen[1], seen[0])


def test_a_forward_of_one_object_alone_is_called():
    model = scatter(nn.Sequential(conv_bn(3, 4, 3), nn.ReLU()))
    x = torch.randn(1, 3, 8, 8)
    for part in (model[0][0], model[0], model):
        part.forward = lambda x, part=part: type(part).forward(part, x) * 2
        fast = optimize(model)
        agree(fast(x), model(x))
        assert fast.depthwise_report.kept
        del part.forward


def test_what_was_optimised_can_be_optimised_again():
    model, x = scatter(networks.mobilenet_v3()), torch.randn(1, 3, 32, 32)
    fast = optimize(model)
    again = optimize(fast)
    assert str(again.depthwise_report) == str(fast.depthwise_report)
    assert torch.equal(again(x), fast(x))


def test_autocast_within_is_kept():
    class Casts(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.second = conv_bn(3, 4, 3), conv_bn(4, 4, 1)

        def forward(self, x):
            with torch.autocast("cpu", torch.bfloat16):
                x = self.first(x)
            return self.second(x.float())

    model, x = scatter(Casts()), torch.randn(1, 3, 8, 8)
    fast = optimize(model)
    agree(fast(x), model(x))
    assert any("autocast" in entry.what for entry in fast.depthwise_report.kept)


def test_tensors_of_the_module_itself_are_read_where_they_are():
    class Scaled(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = conv_bn(4, 4, 1)
            self.scale = nn.Parameter(torch.randn(4, 1, 1))
            self.register_buffer("shift", torch.randn(4, 1, 1))

        def forward(self, x):
            return self.conv(x) * self.scale + self.shift

    model, x = scatter(Scaled()), torch.randn(1, 4, 4, 4)
    fast = optimize(model)
    agree(fast(x), model(x))
    assert fast.depthwise_report.replaced
    for each in (model, fast):
        each.shift.add_(1)
        each.double()
    agree(fast(x.double()), model(x.double()))


def test_state_is_the_originals_and_can_be_loaded():
    model, other = scatter(networks.mobilenet_v3()), scatter(networks.mobilenet_v3())
    for parameter in other.parameters():
        parameter.mul_(0.9)
    other[0][1].running_var.mul_(1.1)
    fast, x = optimize(model), torch.randn(1, 3, 32, 32)
    assert list(fast.state_dict()) == list(model.state_dict())
    agree(fast(x), model(x))
    fast.load_state_dict(other.state_dict())
    agree(fast(x), other(x))
    fast[0][0].weight.mul_(2)
    other[0][0].weight.mul_(2)
    agree(fast(x), other(x))


def test_training_mode():
    model, x = networks.mobilenet_v3(), torch.randn(2, 3, 32, 32)
    with pytest.raises(ValueError, match="the module is in training mode.*call `.eval..` on the module first"):
        optimize(model)
    model = scatter(model)
    model[3].train()
    with pytest.raises(ValueError, match="^3 is in training mode"):
        optimize(model)
    model.eval()
    fast = optimize(model)
    # In training mode it is what it was.
    for each in (model, fast):
        each.train()
        torch.manual_seed(3)
        each.result = each(x)
    assert torch.equal(fast.result, model.result)
    assert torch.equal(fast[0][1].running_mean, model[0][1].running_mean)
    agree(fast.eval()(x), model.eval()(x))


def test_gradients_are_those_of_the_original():
    model, x = scatter(networks.efficientnet_lite0()), torch.randn(1, 3, 32, 32)
    fast = optimize(model)
    assert not any(parameter.requires_grad for parameter in fast.parameters())
    with torch.enable_grad():
        inputs = [x.clone().requires_grad_(), x.clone().requires_grad_()]
        for each, input in zip((model, fast), inputs):
            each(input).sum().backward()
        agree(inputs[1].grad, inputs[0].grad)
        # None are asked for: plans run.
        assert not fast(x).requires_grad


def test_other_types_and_autocast_are_left_to_torch():
    model, x = scatter(networks.mobilenet_v3()), torch.randn(1, 3, 32, 32)
    fast = optimize(model)
    with torch.autocast("cpu", torch.bfloat16):
        found, expected = fast(x), model(x)
    assert found.dtype == expected.dtype == torch.bfloat16
    assert torch.equal(found, expected)
    assert torch.equal(fast.double()(x.double()), model.double()(x.double()))


def test_unbatched_inputs_and_errors_are_torchs():
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU()).eval()
    fast = optimize(model)
    x = torch.randn(3, 8, 8)
    agree(fast(x), model(x))
    with pytest.raises(RuntimeError, match="channels"):
        fast(torch.randn(1, 2, 8, 8))
    assert fast(torch.randn(0, 3, 8, 8)).shape == (0, 4, 6, 6)


def test_copies_and_pickles():
    model, x = scatter(networks.mobilenet_v3()), torch.randn(1, 3, 32, 32)
    fast = optimize(model)
    expected = fast(x)
    twin = copy.deepcopy(fast)
    assert torch.equal(twin(x), expected)
    twin[0][0].weight.zero_()
    assert torch.equal(fast(x), expected)
    assert not torch.equal(twin(x), expected)
    assert torch.equal(pickle.loads(pickle.dumps(fast))(x), expected)
    file = io.BytesIO()
    torch.save(fast, file)
    file.seek(0)
    assert torch.equal(torch.load(file, weights_only=False)(x), expected)


def test_plans_go_with_their_weights():
    gc.collect()
    before = len(PACKED)
    model, x = scatter(networks.efficientnet_lite0()), torch.randn(1, 3, 32, 32)
    fast = optimize(model)
    fast(x)
    assert len(PACKED) > before
    del fast, model
    gc.collect()
    assert len(PACKED) == before


def test_an_example_is_checked():
    class Looks(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(4, 4, 1)

        def forward(self, x):
            # What follows it is no tensor while it is followed.
            return self.conv(x) if isinstance(x, torch.Tensor) else self.conv(x) + 1

    model, x = Looks().eval(), torch.randn(1, 4, 2, 2)
    with pytest.raises(ValueError, match="the optimised module's result for the example differs by"):
        optimize(model, example=x)
    fine = scatter(networks.MobileNetV1())
    assert optimize(fine, example=torch.randn(1, 3, 32, 32)).depthwise_report.replaced


def test_formats_are_torchs():
    model, x = scatter(networks.efficientnet_lite0())[:3].eval(), torch.randn(2, 3, 32, 32)
    for weights_last, input_last in [(False, False), (False, True), (True, False), (True, True)]:
        formats = [torch.channels_last if last else torch.contiguous_format for last in (weights_last, input_last)]
        each = copy.deepcopy(model).to(memory_format=formats[0])
        input = x.to(memory_format=formats[1])
        found, expected = optimize(each)(input), each(input)
        assert found.stride() == expected.stride()
        agree(found, expected)
    assert optimize(model, channels_last=True)(x).is_contiguous(memory_format=torch.channels_last)


def test_strided_inputs():
    model, whole = scatter(conv_bn(4, 4, 3, groups=4)), torch.randn(2, 6, 20, 20)
    fast = optimize(model)
    for x in [whole[:, 1:5, 2:18, 3:19], whole[:, :4, ::2, ::2], whole[:, :4].transpose(2, 3), whole[:1, :4].expand(3, -1, -1, -1)]:
        agree(fast(x), model(x))
        last = x.to(memory_format=torch.channels_last)
        agree(fast(last[:, :, 1:, 1:]), model(last[:, :, 1:, 1:]))


@pytest.mark.parametrize("threads", [1, 2])
def test_the_bits_do_not_depend_on_threads(threads):
    model, x = scatter(networks.efficientnet_lite0())[:6].eval(), torch.randn(1, 3, 96, 96)
    fast = optimize(model)
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        expected = fast(x)
        torch.set_num_threads(threads)
        assert torch.equal(fast(x), expected)
    finally:
        torch.set_num_threads(before)


def test_readme_session():
    import doctest

    assert doctest.testmod(depthwise.torch).attempted >= 4
    assert doctest.testmod(depthwise.torch).failed == 0
