"""Networks that nobody here wrote: torchvision's, with random weights."""

import pytest
import torch
import torchvision
from networks import scatter

from depthwise.torch import optimize


@pytest.mark.parametrize(
    ("name", "kept"),
    [("mobilenet_v2", 0), ("mobilenet_v3_small", 0), ("efficientnet_b0", 0), ("mnasnet0_5", 0), ("shufflenet_v2_x0_5", 0),
     ("resnet18", 0), ("convnext_tiny", 0), ("densenet121", 0), ("regnet_y_400mf", None), ("squeezenet1_1", 0), ("googlenet", 0)],
)  # fmt: skip
def test_classifiers(name, kept):
    torch.manual_seed(0)
    options = {"init_weights": False, "aux_logits": False} if name == "googlenet" else {}
    model = scatter(getattr(torchvision.models, name)(weights=None, **options))
    x = torch.randn(1, 3, 96, 96).to(memory_format=torch.channels_last)
    fast = optimize(model)
    expected, found = model(x), fast(x)
    assert (found - expected).abs().max() <= 1e-4 * expected.abs().max()
    convolutions = sum(isinstance(part, torch.nn.Conv2d) for part in model.modules())
    done = sum(len(entry.name.split(" + ")) for entry in fast.depthwise_report.replaced)
    assert done + len(fast.depthwise_report.kept) == convolutions
    if kept is not None:
        assert len(fast.depthwise_report.kept) == kept, str(fast.depthwise_report)


def test_segmentation_is_followed_in_part():
    model = scatter(torchvision.models.segmentation.lraspp_mobilenet_v3_large(weights=None, weights_backbone=None))
    x = torch.randn(1, 3, 64, 64)
    fast = optimize(model)
    expected, found = model(x)["out"], fast(x)["out"]
    assert (found - expected).abs().max() <= 1e-4 * expected.abs().max()
    assert len(fast.depthwise_report.replaced) > 30
