"""The operator ``torch.ops.depthwise.conv2d``: a convolution, or a separable pair of them, by a plan of ``depthwise``.

Its arguments are tensors and one text, no handle of anything in this process: programs that hold it can be exported, saved and
loaded. Plans are kept beside the weights that they were packed from, and built anew once these change.
"""

from __future__ import annotations

import json
import weakref
from dataclasses import asdict, dataclass
from functools import lru_cache
from typing import Any, NamedTuple, TypeAlias, cast

import numpy
import torch
from torch import Tensor

import depthwise

LIBRARY = torch.library.Library("depthwise", "DEF")
# `parameters` are those of the stages, one after the other: see `Stage.parameters`. `stages` is the text of `Stages`.
LIBRARY.define(
    "conv2d(Tensor input, Tensor? residual, Tensor[] parameters, str stages, bool channels_last) -> Tensor",
    tags=(torch.Tag.pt2_compliant_tag,),
)

# A name, or a name with numbers, as plans take them.
Activation: TypeAlias = str | tuple[Any, ...]


@dataclass(frozen=True)
class Stage:
    """A convolution, its batch normalisation and its activation, without their parameters."""

    kernel_size: tuple[int, int]
    stride: tuple[int, int]
    padding: tuple[int, int, int, int]
    """At the top, at the left, at the bottom, at the right."""
    dilation: tuple[int, int]
    groups: int
    has_bias: bool
    epsilon: float | None
    """That of the batch normalisation, if there is one."""
    is_affine: bool
    """Whether the batch normalisation has a gamma and a beta."""
    activation: Activation

    def number_of_parameters(self) -> int:
        """Weights, bias, then gamma, beta, mean and variance: as many of these as there are."""
        norm = 0 if self.epsilon is None else 4 if self.is_affine else 2
        return 1 + self.has_bias + norm

    def parameters(self, tensors: list[Tensor]) -> dict[str, Any]:
        """The parameters as keywords of a plan, with the weights among them."""
        arrays = [tensor.detach().numpy() for tensor in tensors]
        found: dict[str, Any] = {"weights": arrays.pop(0), "bias": arrays.pop(0) if self.has_bias else None, "batch_norm": None}
        if self.epsilon is not None:
            mean, variance = arrays[-2:]
            gamma, beta = arrays[:2] if self.is_affine else (numpy.ones_like(mean), numpy.zeros_like(mean))
            found["batch_norm"] = depthwise.BatchNorm(gamma, beta, mean, variance, self.epsilon)
        return found

    def extent(self, axis: int, size: Any) -> Any:
        """The outputs along an axis of that many inputs."""
        padded = size + self.padding[axis] + self.padding[axis + 2]
        return (padded - self.dilation[axis] * (self.kernel_size[axis] - 1) - 1) // self.stride[axis] + 1


class Stages(tuple[Stage, ...]):
    """One stage, or a depthwise and a pointwise one."""

    def text(self) -> str:
        return json.dumps([asdict(stage) for stage in self], separators=(",", ":"))

    @staticmethod
    @lru_cache(maxsize=None)
    def parse(text: str) -> Stages:
        stages = []
        for fields in json.loads(text):
            for name, value in fields.items():
                fields[name] = tuple(value) if isinstance(value, list) else value
            stages.append(Stage(**fields))
        return Stages(stages)

    def plan(self, parameters: list[Tensor], channels_last: bool) -> depthwise.Plan:
        """Packs the weights.

        Raises ``ValueError`` if no plan computes this.
        """
        for tensor in parameters:
            if tensor.dtype != torch.float32 or not tensor.is_cpu:
                raise ValueError(f"a parameter is {tensor.dtype} on {tensor.device}, but plans take float32 on the CPU")
        first, *others = self
        count = first.number_of_parameters()
        keywords = first.parameters(list(parameters[:count]))
        common: dict[str, Any] = {
            "stride": first.stride,
            "padding": first.padding,
            "dilation": first.dilation,
            "layout": "nhwc" if channels_last else "nchw",
            "activation": self[-1].activation,
        }
        if not others:
            weights = keywords.pop("weights")
            return depthwise.Conv2d(weights, groups=first.groups, **common, **keywords)
        [second] = others
        then = second.parameters(list(parameters[count:]))
        return depthwise.SeparableConv2d(
            keywords["weights"],
            then.pop("weights"),
            channel_multiplier=len(keywords["weights"]) // first.groups,
            depthwise_bias=keywords["bias"],
            depthwise_batch_norm=keywords["batch_norm"],
            depthwise_activation=cast(Any, first.activation),
            **common,
            **then,
        )


class Seen(NamedTuple):
    """A tensor as it was when a plan was packed from it."""

    tensor: weakref.ref[Tensor]
    version: int | None
    pointer: int

    @staticmethod
    def now(tensor: Tensor, callback: Any = None) -> Seen:
        return Seen(weakref.ref(tensor, callback), version(tensor), tensor.data_ptr())


class Packed(NamedTuple):
    """A plan, and what it was packed from."""

    plan: depthwise.Plan
    seen: tuple[Seen, ...]


def version(tensor: Tensor) -> int | None:
    """How often a tensor was written in place; inference tensors do not count."""
    try:
        return tensor._version
    except RuntimeError:
        return None


PACKED: dict[tuple[int, str, bool], Packed] = {}


def plan_of(parameters: list[Tensor], stages: str, channels_last: bool) -> depthwise.Plan:
    """The plan for these parameters, as they are now."""
    key = (id(parameters[0]), stages, channels_last)
    packed = PACKED.get(key)
    if packed is not None:
        for tensor, seen in zip(parameters, packed.seen):
            if seen.tensor() is not tensor or seen.version != version(tensor) or seen.pointer != tensor.data_ptr():
                break
        else:
            return packed.plan
    plan = Stages.parse(stages).plan(parameters, channels_last)

    def drop(gone: Any) -> None:
        # Not what was packed from another tensor since.
        kept = PACKED.get(key)
        if kept is not None and kept.seen[0].tensor is gone:
            del PACKED[key]

    first, *others = parameters
    PACKED[key] = Packed(plan, (Seen.now(first, drop), *(Seen.now(tensor) for tensor in others)))
    return plan


def forget(weights: Tensor) -> None:
    """Drops the plans that were packed from these weights."""
    for key in [key for key in PACKED if key[0] == id(weights)]:
        del PACKED[key]


def conv2d(
    input: Tensor, residual: Tensor | None, parameters: list[Tensor], stages: str, channels_last: bool
) -> Tensor:
    plan = plan_of(parameters, stages, channels_last)
    shape = plan._output_nchw(cast(Any, input.shape))
    memory_format = torch.channels_last if channels_last else torch.contiguous_format
    output = torch.empty(shape, dtype=input.dtype, memory_format=memory_format)
    x = array(input, channels_last)
    added = None if residual is None else array(residual, channels_last)
    plan._run_nchw(x, added, output.numpy(), torch.get_num_threads())
    return output


def array(tensor: Tensor, channels_last: bool) -> Any:
    """The tensor as a plan reads it, without a copy if its format's last axis has neighbours side by side."""
    if tensor.requires_grad:
        tensor = tensor.detach()
    if tensor.stride(1 if channels_last else 3) != 1:
        tensor = tensor.contiguous(memory_format=torch.channels_last if channels_last else torch.contiguous_format)
    return tensor.numpy()


def conv2d_fake(
    input: Tensor, residual: Tensor | None, parameters: list[Tensor], stages: str, channels_last: bool
) -> Tensor:
    n, _, h, w = input.shape
    first = 0
    for stage in Stages.parse(stages):
        h, w = stage.extent(0, h), stage.extent(1, w)
        channels = parameters[first].shape[0]
        first += stage.number_of_parameters()
    memory_format = torch.channels_last if channels_last else torch.contiguous_format
    return torch.empty((n, channels, h, w), dtype=input.dtype, device=input.device, memory_format=memory_format)


LIBRARY.impl("conv2d", conv2d, "CPU")
torch.library.register_fake("depthwise::conv2d", conv2d_fake, lib=LIBRARY)
RUN = torch.ops.depthwise.conv2d.default
