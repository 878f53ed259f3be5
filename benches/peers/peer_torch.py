"""PyTorch, channels last: eager, and compiled by inductor with frozen weights (which needs a C++ compiler)."""
import torch
import torch._inductor.config
from torch.nn import functional as F

import models
import worker

torch.set_grad_enabled(False)
torch._inductor.config.freezing = True
torch._dynamo.config.recompile_limit = 10000


class Network(torch.nn.Module):
    def __init__(self, model):
        super().__init__()
        self.layers = model.layers
        self.shared = {l["output"] for l in model.layers if model.readers(l["output"]) > 1}
        self.weights = torch.nn.ParameterDict(
            {name.replace(".", "_"): torch.from_numpy(value) for name, value in model.tensors.items()})

    def forward(self, x):
        values = {"input": x}
        for l in self.layers:
            x, *others = (values[name] if name in self.shared else values.pop(name) for name in models.inputs(l))
            if l["op"] == "global_avg_pool":
                y = F.adaptive_avg_pool2d(x, 1)
            elif l["op"] == "add":
                y = x + others[0]
            else:
                w, b = (self.weights[l[name].replace(".", "_")] for name in ("weight", "bias"))
                if l["op"] == "fc":
                    y = F.linear(x.flatten(1), w, b)
                else:
                    top, left, bottom, right = models.pads(l)
                    if (top, left) != (bottom, right):
                        x, top, left = F.pad(x, (left, right, top, bottom)), 0, 0
                    y = F.conv2d(x, w, b, l["stride"], (top, left), l["dilation"], l["groups"])
            values[l["output"]] = F.relu6(y, inplace=True) if l["activation"] == "relu6" else y
        return y


def prepare(model, variant, threads):
    torch.set_num_threads(threads)
    network = Network(model).eval().to(memory_format=torch.channels_last)
    x = torch.from_numpy(model.x).to(memory_format=torch.channels_last)
    if variant.endswith("compiled"):
        torch._dynamo.reset()
        network = torch.compile(network, dynamic=False)
    y = network(x)
    return lambda: network(x), lambda: y.permute(0, 2, 3, 1).numpy() if y.ndim == 4 else y.numpy()


worker.serve(["nhwc eager", "nhwc compiled"], {"torch": torch.__version__}, prepare)
