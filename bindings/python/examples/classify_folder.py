"""Classifies a folder of photographs by EfficientNet-Lite0, on one machine or on a cluster, by Ray Data.

    python classify_folder.py PHOTOGRAPHS                 # as many workers as the cluster has CPUs to spare
    python classify_folder.py PHOTOGRAPHS --workers 8
    python classify_folder.py PHOTOGRAPHS --workers 0     # in this process, without Ray

The command is the same on a laptop and on a cluster: where a cluster runs (`ray start`, or the environment variable RAY_ADDRESS),
it is used, and else one is started on this machine. On a cluster the folder is one that each of its machines sees, and the packages
`depthwise`, `numpy` and `pillow` are installed on each. The scores have the same bits whoever computes them: on any CPU with
AVX2, AVX-512 or NEON, in batches of any size.

Needs `pip install depthwise numpy pillow "ray[data]"`.
"""

import argparse
import hashlib
import io
import json
import math
import os
import sys
from collections import Counter
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

import depthwise

SUFFIXES = [".png", ".jpg", ".jpeg"]


class Model:
    """A network's description, its weights and the names of its classes: plain data, to be sent to workers."""

    def __init__(self, folder: Path) -> None:
        self.description = json.loads((folder / "arch.json").read_text(encoding="utf-8"))
        self.weights = safetensors((folder / "model.safetensors").read_bytes())
        self.classes = (folder / "labels.txt").read_text(encoding="utf-8").splitlines()


def safetensors(file: bytes) -> dict[str, np.ndarray]:
    """The tensors of a file of that format: a header's length, the header, the data."""
    start = 8 + int.from_bytes(file[:8], "little")
    tensors = {}
    for name, fields in json.loads(file[8:start]).items():
        if name != "__metadata__":
            if fields["dtype"] != "F32":
                raise ValueError(f"the tensor {name} has elements of {fields['dtype']}, but F32 is needed")
            first, last = fields["data_offsets"]
            tensors[name] = np.frombuffer(file[start + first : start + last], "<f4").reshape(fields["shape"])
    return tensors


class Network:
    """A network as plans, in NHWC."""

    def __init__(self, model: Model) -> None:
        description = model.description
        _, self.channels, self.height, self.width = description["input"]["shape"]
        self.mean, self.std = (np.array(description["input"][key], np.float32) for key in ("mean", "std"))
        self.central_crop = description["input"].get("central_crop")
        self.output = description["outputs"][0]
        self.steps = []
        shapes = {description["input"]["name"]: description["input"]["shape"]}
        for group in groups(description["layers"], description["outputs"]):
            first, last = group[0], group[-1]
            [x] = inputs(first)
            plan = build(group, model.weights, shapes[x])
            residual = None
            if last["op"] == "add":
                [residual] = [name for name in inputs(last) if name != group[-2]["output"]]
            self.steps.append((plan, x, residual, last["output"]))
            for layer in group:
                shapes[layer["output"]] = layer["out_shape"]

    def pixels(self, file: bytes) -> np.ndarray:
        """A photograph, upright, cropped and resized: rows, columns, colours, of one byte each."""
        photo = ImageOps.exif_transpose(Image.open(io.BytesIO(file))).convert("RGB")
        if self.central_crop is not None:
            side = max(math.floor(self.central_crop * min(photo.size)), 1)
            left, top = ((extent - side + 1) // 2 for extent in photo.size)
            photo = photo.crop((left, top, left + side, top + side))
        return np.asarray(photo.resize((self.width, self.height), Image.Resampling.BICUBIC))

    def scores(self, pixels: np.ndarray) -> np.ndarray:
        """One row of scores for each photograph."""
        values = {"input": (pixels.astype(np.float32) - self.mean) / self.std}
        for plan, x, residual, y in self.steps:
            values[y] = plan(values[x], residual=None if residual is None else values[residual])
        return values[self.output].reshape(len(pixels), -1)


def inputs(layer: dict) -> list[str]:
    return layer.get("inputs") or [layer["input"]]


def groups(layers: list[dict], outputs: list[str]) -> list[list[dict]]:
    """The layers that one plan computes: a pointwise convolution joins a depthwise one, and an addition a convolution."""
    readers = Counter([name for layer in layers for name in inputs(layer)] + outputs)
    found: list[list[dict]] = []
    for layer in layers:
        before = found[-1][-1] if found else None
        joins = before is not None and before["output"] in inputs(layer) and readers[before["output"]] == 1
        pair = joins and (before["op"], layer["op"]) == ("dwconv", "pwconv")
        residual = joins and layer["op"] == "add" and before["op"].endswith("conv") and before["activation"] == "none"
        if pair or residual:
            found[-1].append(layer)
        else:
            found.append([layer])
    return found


def build(group: list[dict], weights: dict[str, np.ndarray], input_shape: list[int]) -> depthwise.Plan:
    """The plan of a layer, of a depthwise and a pointwise one, and of an addition after it."""
    first, activation = group[0], group[-1].get("activation", "none")
    if first["op"] == "global_avg_pool":
        # A window as large as the map: each channel's mean is one sum in one order.
        _, channels, height, width = input_shape
        mean = np.full((channels, 1, height, width), 1 / (height * width))
        return depthwise.DepthwiseConv2d(mean, padding="valid", layout="nhwc")
    bias = weights.get(first.get("bias"))
    if first["op"] == "fc":
        return depthwise.PointwiseConv2d(weights[first["weight"]], bias=bias, activation=activation, layout="nhwc")
    if first["op"] not in ("conv", "dwconv", "pwconv"):
        raise ValueError(f"no plan computes a layer {first['op']} here")
    window = {"stride": tuple(first["stride"]), "dilation": tuple(first["dilation"])}
    window["padding"] = tuple(first["pad"][side] for side in ("top", "left", "bottom", "right"))
    if len(group) > 1 and group[1]["op"] == "pwconv":
        return depthwise.SeparableConv2d(
            weights[first["weight"]],
            weights[group[1]["weight"]],
            depthwise_bias=bias,
            depthwise_activation=first["activation"],
            bias=weights.get(group[1].get("bias")),
            activation=activation,
            layout="nhwc",
            **window,
        )
    return depthwise.Conv2d(
        weights[first["weight"]], groups=first["groups"], bias=bias, activation=activation, layout="nhwc", **window
    )


class Worker:
    """What a worker of Ray holds: the network, built once."""

    def __init__(self, model) -> None:
        import ray

        self.network = Network(ray.get(model))

    def __call__(self, batch: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        pixels = np.stack([self.network.pixels(file) for file in batch["bytes"]])
        return {"path": batch["path"], "scores": self.network.scores(pixels)}


def by_ray(model: Model, files: list[Path], options: argparse.Namespace) -> dict[str, np.ndarray]:
    """The scores of each file, by the workers of a cluster."""
    import ray

    try:
        ray.init(address=os.environ.get("RAY_ADDRESS", "auto"), log_to_driver=False)
    except ConnectionError:
        # Reading takes CPUs too: were there as many workers as CPUs, they would wait for files for ever.
        cpus = options.cpus or max(os.cpu_count() or 1, (options.workers or 1) + 2)
        ray.init(num_cpus=cpus, log_to_driver=False)
    workers = options.workers or max(int(ray.cluster_resources()["CPU"]) - 2, 1)
    ray.data.DataContext.get_current().enable_progress_bars = False
    # As many blocks as batches, so that no worker waits for another's files.
    blocks = max(math.ceil(len(files) / options.batch), 1)
    photographs = ray.data.read_binary_files(
        [str(file) for file in files], include_paths=True, override_num_blocks=blocks
    )
    results = photographs.map_batches(
        Worker,
        fn_constructor_args=(ray.put(model),),
        batch_size=options.batch,
        compute=ray.data.ActorPoolStrategy(size=workers),
        num_cpus=1,
    )
    found = {os.path.normpath(row["path"]): row["scores"] for row in results.iter_rows()}
    ray.shutdown()
    return found


def here(model: Model, files: list[Path], options: argparse.Namespace) -> dict[str, np.ndarray]:
    """The same in this process."""
    network, found = Network(model), {}
    for at in range(0, len(files), options.batch):
        batch = files[at : at + options.batch]
        scores = network.scores(np.stack([network.pixels(file.read_bytes()) for file in batch]))
        found.update((str(file), row) for file, row in zip(batch, scores))
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="a folder with photographs, PNG or JPEG")
    parser.add_argument("--workers", type=int, help="processes of the cluster; 0: this one, without Ray")
    parser.add_argument("--cpus", type=int, help="logical CPUs of a cluster that is started here: two more than workers, or more")
    parser.add_argument("--batch", type=int, default=8, help="photographs that a worker computes at once (default: 8)")
    root = Path(__file__).resolve().parents[3]
    parser.add_argument("--model", type=Path, default=root / "examples/models/efficientnet_lite0", help="a network's folder")
    options = parser.parse_args()
    if options.cpus is not None and options.cpus <= (options.workers or 1):
        parser.error(f"{options.cpus} CPUs for {options.workers or 1} workers leave none for reading, which would wait for ever")
    if options.batch < 1 or (options.workers or 0) < 0:
        parser.error("a batch has at least one photograph, and workers are not fewer than 0")
    folder = options.folder.resolve()
    files = sorted(file for file in folder.iterdir() if file.suffix.lower() in SUFFIXES) if folder.is_dir() else []
    if not files:
        parser.error(f"{options.folder} has no photographs: files that end in {', '.join(SUFFIXES)}")
    model = Model(options.model)
    scores = (here if options.workers == 0 else by_ray)(model, files, options)
    digest = hashlib.sha256()
    for file in files:
        row = scores[str(file)]
        digest.update(row.tobytes())
        best = int(row.argmax())
        share = 1 / np.exp(row.astype(np.float64) - row[best]).sum()
        print(f"{file.name}: {model.classes[best]} ({share:.1%})")
    print(f"{len(files)} photographs, SHA-256 of all scores {digest.hexdigest()}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
