"""ncnn: f32, packed layouts, images one by one (it has no batches)."""
import importlib.metadata
import os
import struct
import tempfile

import ncnn
import numpy as np

import models
import worker


def write(model, folder):
    """ncnn's own format: a text of layers, and the weights in order."""
    lines, weights, blobs = [], b"", 0

    def layer(kind, sources, results, **parameters):
        nonlocal blobs
        blobs += len(results)
        words = [kind, f"l{len(lines)}", len(sources), len(results), *sources, *results]
        lines.append(" ".join(map(str, words + [f"{k.strip('p')}={v}" for k, v in parameters.items()])))

    copies = {}  # a tensor with several readers must be split

    def produce(kind, sources, name, **parameters):
        layer(kind, sources, [name], **parameters)
        if model.readers(name) > 1:
            copies[name] = [f"{name}.{i}" for i in range(model.readers(name))]
            layer("Split", [name], list(copies[name]))

    produce("Input", [], "input")
    for l in model.layers:
        sources = [copies[name].pop() if name in copies else name for name in models.inputs(l)]
        relu6 = {"p9": 3, "p-23310": "2,0.0,6.0"} if l["activation"] == "relu6" else {}
        if l["op"] == "global_avg_pool":
            produce("Pooling", sources, l["output"], p0=1, p4=1)
        elif l["op"] == "add":
            produce("BinaryOp", sources, l["output"], p0=0)
        elif l["op"] == "fc":
            produce("InnerProduct", sources, l["output"], p0=l["out_features"], p1=1,
                    p2=model.tensors[l["weight"]].size)
        else:
            top, left, bottom, right = models.pads(l)
            groups = {"p7": l["groups"]} if l["groups"] > 1 else {}
            (kh, kw), (sh, sw), (dh, dw) = l["kernel"], l["stride"], l["dilation"]
            produce("ConvolutionDepthWise" if groups else "Convolution", sources, l["output"], p0=l["out_channels"],
                    p1=kw, p11=kh, p2=dw, p12=dh, p3=sw, p13=sh, p4=left, p14=top, p15=right, p16=bottom, p5=1,
                    p6=model.tensors[l["weight"]].size, **groups, **relu6)
        if "weight" in l:  # the 0 says: raw f32
            weights += struct.pack("<I", 0) + model.tensors[l["weight"]].tobytes() + model.tensors[l["bias"]].tobytes()
    paths = os.path.join(folder, "model.param"), os.path.join(folder, "model.bin")
    with open(paths[0], "w") as f:
        f.write(f"7767517\n{len(lines)} {blobs}\n" + "\n".join(lines) + "\n")
    with open(paths[1], "wb") as f:
        f.write(weights)
    return paths


def prepare(model, variant, threads):
    net = ncnn.Net()
    net.opt.num_threads = threads
    for option in dir(net.opt):
        if option.startswith(("use_fp16", "use_bf16", "use_int8", "use_vulkan")):
            setattr(net.opt, option, False)
    with tempfile.TemporaryDirectory() as folder:
        layers, weights = write(model, folder)
        assert net.load_param(layers) == 0 and net.load_model(weights) == 0
    images = [ncnn.Mat(np.ascontiguousarray(image)).clone() for image in model.x]
    results = [None] * len(images)

    def call():
        for i, image in enumerate(images):
            extractor = net.create_extractor()
            extractor.input("input", image)
            results[i] = extractor.extract(model.layers[-1]["output"])[1]

    return call, lambda: np.stack([np.array(result) for result in results])


worker.serve(["nchw"], {"ncnn": importlib.metadata.version("ncnn")}, prepare)
