"""Networks of the kinds that people have, with random weights and statistics: written here, as their papers describe them."""

import torch
import torch.nn.functional as F
from torch import nn


def scatter(module):
    """Weights, and statistics of batch norm that are not those of a new module; evaluation mode."""
    torch.manual_seed(1)
    for part in module.modules():
        if isinstance(part, nn.Conv2d):
            nn.init.kaiming_normal_(part.weight, nonlinearity="relu")
        if isinstance(part, nn.BatchNorm2d):
            for values, low, high in [(part.running_mean, -0.3, 0.3), (part.running_var, 0.7, 1.5)]:
                values.uniform_(low, high)
            if part.affine:
                with torch.no_grad():
                    part.weight.uniform_(0.7, 1.2)
                    part.bias.uniform_(-0.3, 0.3)
    return module.eval()


def conv_bn(inputs, outputs, kernel, stride=1, groups=1, act=None):
    layers = [nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False), nn.BatchNorm2d(outputs)]
    return nn.Sequential(*layers, *([] if act is None else [act]))


class MobileNetV1(nn.Module):
    """A plain chain of separable convolutions, with activations by function calls."""

    def __init__(self, width=32):
        super().__init__()
        self.stem = conv_bn(3, width, 3, 2)
        channels, self.depthwise, self.pointwise = width, nn.ModuleList(), nn.ModuleList()
        for outputs, stride in [(2 * width, 1), (4 * width, 2), (4 * width, 1), (8 * width, 2), (8 * width, 1)]:
            self.depthwise.append(conv_bn(channels, channels, 3, stride, channels))
            self.pointwise.append(conv_bn(channels, outputs, 1))
            channels = outputs
        self.classifier = nn.Linear(channels, 10)

    def features(self, x):
        x = F.relu6(self.stem(x))
        for depthwise, pointwise in zip(self.depthwise, self.pointwise):
            x = F.relu6(pointwise(F.relu6(depthwise(x), inplace=True)))
        return x

    def forward(self, x):
        return self.classifier(F.adaptive_avg_pool2d(self.features(x), 1).flatten(1))


class SqueezeExcite(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.reduce = nn.Conv2d(channels, channels // 4, 1)
        self.expand = nn.Conv2d(channels // 4, channels, 1)

    def forward(self, x):
        scale = x.mean((2, 3), keepdim=True)
        return x * F.hardsigmoid(self.expand(F.relu(self.reduce(scale))))


class InvertedResidual(nn.Module):
    """Expand, depthwise, perhaps squeeze and excite, project, perhaps add."""

    def __init__(self, inputs, middle, outputs, kernel, stride, excite, act):
        super().__init__()
        self.adds = stride == 1 and inputs == outputs
        self.expand = conv_bn(inputs, middle, 1, act=act())
        self.depthwise = conv_bn(middle, middle, kernel, stride, middle, act=act())
        self.excite = SqueezeExcite(middle) if excite else nn.Identity()
        self.project = conv_bn(middle, outputs, 1)

    def forward(self, x):
        y = self.project(self.excite(self.depthwise(self.expand(x))))
        if self.adds:
            y += x
        return y


def mobilenet_v3():
    """Squeeze and excite, hard-swish, residuals."""
    rows = [(16, 64, 24, 3, 2, False, nn.ReLU), (24, 72, 24, 3, 1, False, nn.ReLU), (24, 72, 40, 5, 2, True, nn.ReLU),
            (40, 120, 40, 5, 1, True, nn.ReLU), (40, 240, 80, 3, 2, False, nn.Hardswish), (80, 184, 80, 3, 1, False, nn.Hardswish)]
    return nn.Sequential(
        conv_bn(3, 16, 3, 2, act=nn.Hardswish()), *(InvertedResidual(*row) for row in rows),
        conv_bn(80, 160, 1, act=nn.Hardswish()), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
        nn.Linear(160, 64), nn.Hardswish(), nn.Dropout(0.2), nn.Linear(64, 10),
    )  # fmt: skip


def efficientnet_lite0():
    """No squeeze and excite, ReLU6, residuals, kernels of 3 and 5."""
    rows = [(32, 32, 16, 3, 1), (16, 96, 24, 3, 2), (24, 144, 24, 3, 1), (24, 144, 40, 5, 2), (40, 240, 40, 5, 1)]
    return nn.Sequential(
        conv_bn(3, 32, 3, 2, act=nn.ReLU6(inplace=True)),
        *(InvertedResidual(*row, False, lambda: nn.ReLU6(inplace=True)) for row in rows),
        conv_bn(40, 128, 1, act=nn.ReLU6(inplace=True)), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(128, 10),
    )  # fmt: skip


class ResNet(nn.Module):
    """Standard convolutions, both sides of an addition computed, an activation after it."""

    def __init__(self):
        super().__init__()
        self.stem = conv_bn(3, 16, 7, 2, act=nn.ReLU(inplace=True))
        self.first, self.second = conv_bn(16, 32, 3, 2, act=nn.ReLU()), conv_bn(32, 32, 3)
        self.shortcut = conv_bn(16, 32, 1, 2)
        self.third = conv_bn(32, 32, 3)

    def forward(self, x):
        x = F.max_pool2d(self.stem(x), 3, 2, 1)
        x = torch.relu(self.second(self.first(x)) + self.shortcut(x))
        return F.silu(torch.add(x, self.third(x)))
