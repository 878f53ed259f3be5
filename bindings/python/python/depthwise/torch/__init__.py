"""Plans inside modules of PyTorch: ``depthwise.torch.optimize(module)``.

>>> import torch
>>> import depthwise.torch
>>> model = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3, padding=1), torch.nn.ReLU()).eval()
>>> fast = depthwise.torch.optimize(model)
>>> print(fast.depthwise_report)
0: by a plan: standard 3×3, 3 to 8, relu
1 by a plan, 0 kept
"""

from ._fused import FusedConv2d
from ._optimize import Entry, Report, optimize

__all__ = ["Entry", "FusedConv2d", "Report", "optimize"]
