"""OpenVINO: f32, one stream, for latency; the graph's ends in NCHW or in NHWC."""
import numpy as np
import openvino as ov
from openvino._pyopenvino import InferRequest

import models
import worker

core = ov.Core()


def prepare(model, variant, threads, read_at, _):
    network = core.read_model(models.to_onnx(model).SerializeToString())
    x = model.x
    if variant == "nhwc":
        x = x.transpose(0, 2, 3, 1)
        ends = ov.preprocess.PrePostProcessor(network)
        images = [ends.input(), ends.output()] if len(network.output().shape) == 4 else [ends.input()]
        for end in images:
            end.tensor().set_layout(ov.Layout("NHWC"))
            end.model().set_layout(ov.Layout("NCHW"))
        network = ends.build()
    compiled = core.compile_model(network, "CPU", {
        "INFERENCE_PRECISION_HINT": "f32", "PERFORMANCE_HINT": "LATENCY", "NUM_STREAMS": 1,
        "INFERENCE_NUM_THREADS": threads})
    request = compiled.create_infer_request()
    x = worker.placed(x, read_at)  # the output is OpenVINO's own
    request.set_input_tensor(ov.Tensor(x, shared_memory=True))
    # The C++ method: the Python wrapper around it makes a dictionary of the results.
    infer = InferRequest.infer
    return (lambda _keep=x: infer(request, {}, share_outputs=True, decode_strings=False),
            lambda: request.get_output_tensor().data)


worker.serve(["nhwc", "nchw"], {"openvino": ov.__version__}, prepare, ["lines", "vec"])
