"""MobileNetV1 1.0/224, with random weights, by PyTorch and by ``depthwise.torch.optimize``: ``python -m depthwise.torch.compare``.

All take turns, and the fastest call of each counts: with one thread by its CPU time, with several by the clock. The last line is the time of
the fastest of PyTorch's over that of the optimised network without ``torch.compile``, and the largest difference of their outputs beside
the largest output. The exit status is 1 if the difference is greater than 1e-4 of it.
"""

from __future__ import annotations

import argparse
import copy
import sys
import time
from collections.abc import Callable

import torch
from torch import Tensor, nn

import depthwise

from ._optimize import optimize

# A name, what computes, and its input.
Case = tuple[str, Callable[[Tensor], Tensor], Tensor]

BLOCKS = [(64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), *[(512, 1)] * 5, (1024, 2), (1024, 1)]


def mobilenet_v1(batch_norm: bool) -> nn.Module:
    """With batch normalisation, or with biases in its place, as a file has them in which it is folded."""

    def convolution(inputs: int, outputs: int, kernel: int, stride: int, groups: int) -> list[nn.Module]:
        conv = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=not batch_norm)
        nn.init.kaiming_uniform_(conv.weight, nonlinearity="relu")
        return [conv, *([nn.BatchNorm2d(outputs)] if batch_norm else []), nn.ReLU6()]

    layers, channels = convolution(3, 32, 3, 2, 1), 32
    for outputs, stride in BLOCKS:
        layers += convolution(channels, channels, 3, stride, channels) + convolution(channels, outputs, 1, 1, 1)
        channels = outputs
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, 1000)).eval()


def fastest(cases: list[Case], threads: int, seconds: float) -> list[float]:
    """The fastest call of each case, in milliseconds."""
    clock = time.thread_time if threads == 1 else time.perf_counter
    least = [float("inf")] * len(cases)
    turns = 8
    for _ in range(turns):
        for i, (_, model, x) in enumerate(cases):
            model(x)
            until = time.perf_counter() + seconds / turns
            while time.perf_counter() < until:
                start = clock()
                model(x)
                least[i] = min(least[i], (clock() - start) * 1e3)
    return least


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m depthwise.torch.compare", description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=1, help="for PyTorch and for plans (default: 1)")
    parser.add_argument("--seconds", type=float, default=4.0, help="for each case (default: 4)")
    parser.add_argument("--batch", type=int, default=1, help="images in a batch (default: 1)")
    parser.add_argument("--batch-norm", action="store_true", help="with batch normalisation, instead of biases")
    parser.add_argument("--no-compile", action="store_true", help="without torch.compile, which needs a C++ compiler")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    with torch.no_grad():
        return compare(options)


def compare(options: argparse.Namespace) -> int:
    nchw = mobilenet_v1(options.batch_norm)
    channels_last = copy.deepcopy(nchw).to(memory_format=torch.channels_last)
    x = torch.randn(options.batch, 3, 224, 224)
    xl = x.to(memory_format=torch.channels_last)
    ours = optimize(channels_last, example=xl)
    theirs: list[Case] = [("torch, eager, contiguous", nchw, x), ("torch, eager, channels-last", channels_last, xl)]
    cases: list[Case] = [*theirs, ("depthwise, contiguous", optimize(nchw), x), ("depthwise, channels-last", ours, xl)]
    if not options.no_compile:
        cases.insert(2, ("torch, compile, channels-last", torch.compile(channels_last), xl))
        cases.append(("depthwise, compile, channels-last", torch.compile(ours), xl))
    number = sum(name.startswith("torch") for name, _, _ in cases)
    expected = nchw(x)
    differences = [(model(input) - expected).abs().max().item() for _, model, input in cases]
    times = fastest(cases, options.threads, options.seconds)
    best = min(times[:number])
    plural = "" if options.threads == 1 else "s"
    print(f"MobileNetV1 1.0/224, batch {options.batch}, {options.threads} thread{plural}, torch {torch.__version__}, {depthwise.machine()}")
    print(f"{'':<36}{'ms':>9}{'times as fast as the best of torch':>38}{'difference':>14}")
    for (name, _, _), took, difference in zip(cases, times, differences):
        print(f"{name:<36}{took:>9.2f}{best / took:>38.2f}{difference:>14.1e}")
    difference, largest = differences[number + 1], expected.abs().max().item()
    print(f"speedup {best / times[number + 1]:.2f}, difference {difference:.2g} of {largest:.3g}")
    return int(not difference <= 1e-4 * largest)


if __name__ == "__main__":
    sys.exit(main())
