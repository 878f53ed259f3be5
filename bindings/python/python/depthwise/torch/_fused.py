"""Convolutions with what follows them, as one module that runs them by a plan, or by PyTorch where no plan does."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ._operator import RUN, Activation, Stage, Stages, forget, plan_of

BY_TORCH: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": F.relu,
    "relu6": F.relu6,
    "hardswish": F.hardswish,
    "hardsigmoid": F.hardsigmoid,
    "sigmoid": torch.sigmoid,
    "silu": F.silu,
    "gelu": F.gelu,
    "mish": F.mish,
    "tanh": torch.tanh,
}


def activate(activation: Activation, x: Tensor) -> Tensor:
    """The activation, by PyTorch."""
    if isinstance(activation, str):
        return x if activation == "none" else BY_TORCH[activation](x)
    name, *numbers = activation
    return torch.clamp(x, *numbers) if name == "clamp" else F.leaky_relu(x, *numbers)


class Convolution:
    """A convolution of a network, the batch normalisation that follows it, and the activation."""

    def __init__(self, convolution: nn.Conv2d) -> None:
        self.convolution = convolution
        self.norm: nn.BatchNorm2d | None = None
        self.activation: Activation = "none"

    def refusal(self) -> str | None:
        """Why no plan computes the convolution."""
        conv = self.convolution
        if type(conv) is not nn.Conv2d:
            return f"it is a {type(conv).__name__}, of which nothing is known"
        if has_hooks(conv):
            return "it has hooks, or a forward of its own"
        if conv.padding_mode != "zeros":
            return f"it pads by {conv.padding_mode!r}, and plans by zeros"
        if conv.weight.dtype != torch.float32 or not conv.weight.is_cpu:
            return f"its weights are {conv.weight.dtype} on {conv.weight.device}, and plans take float32 on the CPU"
        return None

    def norm_refusal(self, norm: nn.BatchNorm2d) -> str | None:
        """Why a batch normalisation cannot be folded in."""
        if type(norm) is not nn.BatchNorm2d or has_hooks(norm):
            return "it is of another class, or has hooks"
        if norm.running_mean is None or norm.running_var is None:
            return "it has no running statistics"
        if norm.num_features != self.convolution.out_channels:
            return "it has another number of channels"
        if norm.running_mean.dtype != torch.float32 or (norm.weight is None) != (norm.bias is None):
            return "its parameters are not float32, or it has one of gamma and beta alone"
        return None

    def stage(self, activation: Activation | None = None) -> Stage:
        conv, norm = self.convolution, self.norm
        return Stage(
            kernel_size=pair(conv.kernel_size),
            stride=pair(conv.stride),
            padding=padding(conv),
            dilation=pair(conv.dilation),
            groups=conv.groups,
            has_bias=conv.bias is not None,
            epsilon=None if norm is None else norm.eps,
            is_affine=norm is not None and norm.weight is not None,
            activation=self.activation if activation is None else activation,
        )

    def is_depthwise(self) -> bool:
        conv = self.convolution
        return conv.groups > 1 and conv.groups == conv.in_channels

    def is_pointwise(self) -> bool:
        conv = self.convolution
        return (conv.kernel_size, conv.stride, padding(conv), conv.groups) == ((1, 1), (1, 1), (0, 0, 0, 0), 1)

    def parameters(self) -> list[Tensor]:
        """Those that there are, as they are now."""
        # Not as attributes, which modules look for in several places.
        own: dict[str, Any] = self.convolution._parameters
        weight, bias = own["weight"], own["bias"]
        found = [weight] if bias is None else [weight, bias]
        if self.norm is not None:
            scale: dict[str, Any] = self.norm._parameters
            statistics: dict[str, Any] = self.norm._buffers
            if scale["weight"] is not None:
                found += (scale["weight"], scale["bias"])
            found += (statistics["running_mean"], statistics["running_var"])
        return found

    def by_torch(self, x: Tensor, residual: Tensor | None) -> Tensor:
        """What it computes, as it was before."""
        # Not by calls, which may lead here again.
        x = nn.Conv2d.forward(self.convolution, x)
        if self.norm is not None:
            x = nn.BatchNorm2d.forward(self.norm, x)
        if residual is not None:
            x = x + residual
        return activate(self.activation, x)

    def __str__(self) -> str:
        conv = self.convolution
        kind = "depthwise" if self.is_depthwise() else "pointwise" if self.is_pointwise() else "standard"
        kh, kw = conv.kernel_size
        text = f"{kind} {kh}×{kw}, {conv.in_channels} to {conv.out_channels}"
        if self.norm is not None:
            text += ", batch norm"
        if self.activation != "none":
            text += f", {self.activation if isinstance(self.activation, str) else self.activation[0]}"
        return text


def padding(conv: nn.Conv2d) -> tuple[int, int, int, int]:
    """The zeros at the top, at the left, at the bottom, at the right."""
    if conv.padding == "valid":
        return (0, 0, 0, 0)
    if conv.padding == "same":
        # An odd one goes below or to the right.
        rows, columns = (d * (k - 1) for d, k in zip(conv.dilation, conv.kernel_size))
        return (rows // 2, columns // 2, rows - rows // 2, columns - columns // 2)
    rows, columns = cast(tuple[int, int], conv.padding)
    return (rows, columns, rows, columns)


def pair(values: tuple[int, ...]) -> tuple[int, int]:
    rows, columns = values
    return rows, columns


def has_hooks(module: nn.Module) -> bool:
    """Whether anything of the user's runs when the module is called: hooks, or a forward of this object alone."""
    hooks = (module._forward_hooks, module._forward_pre_hooks, module._backward_hooks, module._backward_pre_hooks)
    return any(hooks) or "forward" in module.__dict__


class FusedConv2d(nn.Module):
    """One or two convolutions with what follows them, by one plan.

    It has no parameters of its own. It reads those of the modules that it was made of, which stay where they are. What no plan
    computes, such as gradients, other types than ``float32`` and other devices than the CPU, these modules compute as before.
    """

    def __init__(self, convolutions: list[Convolution], channels_last: bool) -> None:
        super().__init__()
        # In an object that is no module, so that nothing is registered twice.
        self.convolutions = tuple(convolutions)
        self.channels_last = channels_last
        self.in_channels = convolutions[0].convolution.in_channels
        self.adds_residual = False
        self.geometry = Stages(each.stage() for each in convolutions)
        self.stages = self.geometry.text()
        self.stages_without_activation = Stages([*self.geometry[:-1], convolutions[-1].stage("none")]).text()
        self.requires_grad_(False)
        self.eval()

    def pack(self) -> None:
        """Builds the plan before the first run.

        Raises ``ValueError`` if no plan computes this.
        """
        plan_of(self.tensors(), self.stages, self.channels_last)

    def forget(self) -> None:
        """Drops the plans, as training changes running statistics in ways that no tensor tells of."""
        forget(self.convolutions[0].convolution.weight)

    def tensors(self) -> list[Tensor]:
        """The parameters of all stages."""
        first, *others = self.convolutions
        found = first.parameters()
        for each in others:
            found += each.parameters()
        return found

    def forward(self, x: Tensor, residual: Tensor | None = None) -> Tensor:
        if not self.runs_by_plan(x):
            *first, last = self.convolutions
            for each in first:
                x = each.by_torch(x, None)
            return last.by_torch(x, residual)
        channels_last = self.channels_last or (
            x.is_contiguous(memory_format=torch.channels_last) and not x.is_contiguous()
        )
        tensors = self.tensors()
        if residual is None or self.takes(residual, x):
            return RUN(x, residual, tensors, self.stages, channels_last)
        # Broadcast, or of another type: PyTorch adds it.
        last = self.convolutions[-1]
        return activate(last.activation, RUN(x, None, tensors, self.stages_without_activation, channels_last) + residual)

    def takes(self, residual: Tensor, x: Tensor) -> bool:
        """Whether a plan can add the residual: if it has the output's shape and type."""
        # What is added may be a number.
        if not isinstance(residual, Tensor) or residual.dtype != x.dtype or not residual.is_cpu or residual.dim() != 4:
            return False
        height, width = x.shape[2:]
        for stage in self.geometry:
            height, width = stage.extent(0, height), stage.extent(1, width)
        channels = self.convolutions[-1].convolution.out_channels
        return residual.shape == (x.shape[0], channels, height, width)

    def runs_by_plan(self, x: Tensor) -> bool:
        """Whether a plan computes this, as things are now."""
        if x.dtype != torch.float32 or not x.is_cpu or x.dim() != 4 or x.layout != torch.strided:
            return False
        if x.shape[1] != self.in_channels or torch.is_autocast_enabled("cpu"):
            return False
        differentiates = torch.is_grad_enabled()
        if differentiates and x.requires_grad:
            return False
        for each in self.convolutions:
            weight: Any = each.convolution._parameters["weight"]
            norm = each.norm
            if weight.dtype != torch.float32 or not weight.is_cpu or (differentiates and weight.requires_grad):
                return False
            if norm is not None and norm.training:
                self.forget()
                return False
        return True

    def extra_repr(self) -> str:
        text = "; ".join(str(each) for each in self.convolutions)
        return text + ", plus a residual" if self.adds_residual else text
