"""The models, as every peer gets them: a folder with

  arch.json          the layers, in the format of examples/models/README.md
  model.safetensors  the weights, and the input as `input.nchw` and `input.nhwc`
  model.onnx         the same network

and what they must compute: `reference`, in float64.
"""
import json
import os
import zlib

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from safetensors.numpy import load_file, save_file

ROOT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..")
NETWORKS = ["mobilenet_v1", "efficientnet_lite0"]


def blocks():
    with open(os.path.join(ROOT, "benches", "shapes", "blocks.json")) as f:
        return json.load(f)["blocks"]


class Model:
    def __init__(self, layers, tensors, x):
        """Layers as in arch.json, tensors by name, the input x in NCHW."""
        self.layers, self.tensors, self.x = layers, tensors, x

    def readers(self, name):
        """How many layers read a tensor."""
        return sum(inputs(l).count(name) for l in self.layers)

    def save(self, folder):
        os.makedirs(folder, exist_ok=True)
        arch = {"format": "dwx-arch/1", "name": os.path.basename(folder), "layers": self.layers,
                # The format describes one image; how many there are is the input tensor's matter.
                "input": {"name": "input", "shape": [1, *self.x.shape[1:]]}, "outputs": [self.layers[-1]["output"]]}
        with open(os.path.join(folder, "arch.json"), "w") as f:
            json.dump(arch, f)
        nhwc = np.ascontiguousarray(self.x.transpose(0, 2, 3, 1))
        save_file({**self.tensors, "input.nchw": self.x, "input.nhwc": nhwc},
                  os.path.join(folder, "model.safetensors"))
        onnx.save(to_onnx(self), os.path.join(folder, "model.onnx"))


def load(folder):
    with open(os.path.join(folder, "arch.json")) as f:
        layers = json.load(f)["layers"]
    tensors = load_file(os.path.join(folder, "model.safetensors"))
    x = tensors.pop("input.nchw")
    tensors.pop("input.nhwc")
    return Model(layers, tensors, x)


def build(name, part):
    """A block, its part "block", "dw" or "pw"; or a network, part "network"."""
    rng = np.random.default_rng(zlib.crc32(f"{name} {part}".encode()))
    if part != "network":
        return block(next(b for b in blocks() if b["name"] == name), part, rng)
    if name == "mobilenet_v1":
        return mobilenet_v1(rng)
    folder = os.path.join(ROOT, "examples", "models", name)
    with open(os.path.join(folder, "arch.json")) as f:
        arch = json.load(f)
    x = rng.standard_normal(arch["input"]["shape"]).astype(np.float32)
    return Model(arch["layers"], load_file(os.path.join(folder, "model.safetensors")), x)


class Builder:
    """Appends layers with random weights, each reading the one before."""

    def __init__(self, rng):
        self.rng, self.layers, self.tensors = rng, [], {}

    def add(self, op, weight=None, **fields):
        name = f"{len(self.layers)}.{op}"
        source = self.layers[-1]["output"] if self.layers else "input"
        layer = {"op": op, "name": name, "input": source, "output": name, "activation": "none", **fields}
        if weight is not None:
            gain = 2 if layer["activation"] == "relu6" else 1  # keeps the values' size from layer to layer
            scale = np.sqrt(gain / np.prod(weight[1:]))
            layer.update(weight=f"{name}.weight", bias=f"{name}.bias")
            self.tensors[layer["weight"]] = (self.rng.standard_normal(weight) * scale).astype(np.float32)
            self.tensors[layer["bias"]] = (self.rng.standard_normal(weight[0]) * 0.1).astype(np.float32)
        self.layers.append(layer)

    def conv(self, op, c, m, k=1, stride=1, pad=0, dilation=1, act="none"):
        groups = c if op == "dwconv" else 1
        self.add(op, (m, c // groups, k, k), in_channels=c, out_channels=m, groups=groups, kernel=[k, k],
                 stride=[stride] * 2, dilation=[dilation] * 2, activation=act,
                 pad=dict.fromkeys(["top", "left", "bottom", "right"], pad))


def block(b, part, rng):
    net = Builder(rng)
    h, w = b["h"], b["w"]
    if part != "pw":
        net.conv("dwconv", b["c"], b["c"], b["k"], b["stride"], b["pad"], b["dilation"], b["act"])
    else:
        reach = (b["k"] - 1) * b["dilation"] + 1
        h, w = ((size + 2 * b["pad"] - reach) // b["stride"] + 1 for size in (h, w))
    if part != "dw":
        net.conv("pwconv", b["c"], b["m"], act=b["act"])
    x = rng.standard_normal((b["n"], b["c"], h, w)).astype(np.float32)
    return Model(net.layers, net.tensors, x)


def mobilenet_v1(rng):
    """MobileNetV1 1.0 on 224x224, random weights."""
    net = Builder(rng)
    net.conv("conv", 3, 32, 3, 2, 1, act="relu6")
    c = 32
    for m, stride in [(64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), *[(512, 1)] * 5, (1024, 2), (1024, 1)]:
        net.conv("dwconv", c, c, 3, stride, 1, act="relu6")
        net.conv("pwconv", c, m, act="relu6")
        c = m
    net.add("global_avg_pool")
    net.add("fc", (1000, c), in_features=c, out_features=1000)
    return Model(net.layers, net.tensors, rng.standard_normal((1, 3, 224, 224)).astype(np.float32))


def inputs(layer):
    return layer["inputs"] if "inputs" in layer else [layer["input"]]


def pads(layer):
    """Top, left, bottom, right."""
    return [layer["pad"][side] for side in ("top", "left", "bottom", "right")]


def same_pads(layer, h, w):
    """TensorFlow's SAME, where the layer pads at all: at stride 2 it pads the other side."""
    if not any(pads(layer)):
        return pads(layer)
    total = [max((-(-size // s) - 1) * s + (k - 1) * d + 1 - size, 0)
             for size, k, s, d in zip((h, w), layer["kernel"], layer["stride"], layer["dilation"])]
    return [total[0] // 2, total[1] // 2, total[0] - total[0] // 2, total[1] - total[1] // 2]


def reference(model, same=False):
    """The output, NCHW, in float64. `same`: with TensorFlow's SAME padding."""
    values = {"input": model.x.astype(np.float64)}
    for l in model.layers:
        x = values[inputs(l)[0]]
        if l["op"] == "global_avg_pool":
            y = x.mean(axis=(2, 3))
        elif l["op"] == "add":
            y = x + values[inputs(l)[1]]
        elif l["op"] == "fc":
            y = x.reshape(len(x), -1) @ model.tensors[l["weight"]].astype(np.float64).T + model.tensors[l["bias"]]
        else:
            y = convolution(l, x, model.tensors[l["weight"]].astype(np.float64), same)
            y += model.tensors[l["bias"]][:, None, None]
        if l["activation"] == "relu6":
            y = np.clip(y, 0, 6)
        else:
            assert l["activation"] == "none", l["activation"]
        values[l["output"]] = y
    return y


def convolution(l, x, w, same):
    n, c, height, width = x.shape
    top, left, bottom, right = same_pads(l, height, width) if same else pads(l)
    x = np.pad(x, ((0, 0), (0, 0), (top, bottom), (left, right)))
    (kh, kw), (sh, sw), (dh, dw) = l["kernel"], l["stride"], l["dilation"]
    oh, ow = (x.shape[2] - (kh - 1) * dh - 1) // sh + 1, (x.shape[3] - (kw - 1) * dw - 1) // sw + 1
    y = np.zeros((n, w.shape[0], oh, ow))
    for i in range(kh):
        for j in range(kw):
            tap = x[:, :, i * dh:i * dh + (oh - 1) * sh + 1:sh, j * dw:j * dw + (ow - 1) * sw + 1:sw]
            if l["groups"] == 1:
                y += (w[:, :, i, j] @ tap.reshape(n, c, -1)).reshape(y.shape)
            else:
                y += tap * w[:, 0, i, j][:, None, None]
    return y


def to_onnx(model):
    nodes, x = [], model.x
    constants = dict(model.tensors)
    for l in model.layers:
        source, result = inputs(l), l["output"]
        raw = result + ".raw" if l["activation"] == "relu6" else result
        if l["op"] == "global_avg_pool":
            nodes.append(helper.make_node("GlobalAveragePool", source, [raw]))
        elif l["op"] == "add":
            nodes.append(helper.make_node("Add", source, [raw]))
        elif l["op"] == "fc":
            nodes.append(helper.make_node("Flatten", source, [result + ".flat"]))
            nodes.append(helper.make_node("Gemm", [result + ".flat", l["weight"], l["bias"]], [raw], transB=1))
        else:
            nodes.append(helper.make_node(
                "Conv", [*source, l["weight"], l["bias"]], [raw], kernel_shape=l["kernel"], strides=l["stride"],
                dilations=l["dilation"], pads=pads(l), group=l["groups"]))
        if raw != result:
            constants.update(lo=np.float32(0), hi=np.float32(6))
            nodes.append(helper.make_node("Clip", [raw, "lo", "hi"], [result]))
    graph = helper.make_graph(
        nodes, "model", [helper.make_tensor_value_info("input", TensorProto.FLOAT, x.shape)],
        [helper.make_tensor_value_info(model.layers[-1]["output"], TensorProto.FLOAT, None)],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()])
    m = onnx.shape_inference.infer_shapes(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=10))
    onnx.checker.check_model(m)
    return m
