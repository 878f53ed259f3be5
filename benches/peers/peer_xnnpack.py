"""XNNPACK, through LiteRT: a .tflite file, written here, all of it in the XNNPACK delegate."""
import importlib.metadata

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter

import models
import worker


class Writer:
    def __init__(self):
        self.graph = schema.SubGraphT()
        self.graph.tensors, self.graph.operators = [], []
        self.buffers, self.codes = [schema.BufferT()], []

    def tensor(self, shape, data=None):
        t = schema.TensorT()
        t.shape, t.buffer, t.name = [int(d) for d in shape], 0, f"t{len(self.graph.tensors)}".encode()
        t.type = schema.TensorType.INT32 if data is not None and data.dtype == np.int32 else schema.TensorType.FLOAT32
        if data is not None:
            b = schema.BufferT()
            b.data = np.frombuffer(np.ascontiguousarray(data).tobytes(), np.uint8)
            t.buffer = len(self.buffers)
            self.buffers.append(b)
        self.graph.tensors.append(t)
        return len(self.graph.tensors) - 1

    def operator(self, name, options, reads, result, version=1):
        """`name` as in BuiltinOperator; options: an object of the schema."""
        code = schema.OperatorCodeT()
        code.builtinCode = code.deprecatedBuiltinCode = getattr(schema.BuiltinOperator, name)
        code.version = version
        o = schema.OperatorT()
        o.opcodeIndex, o.inputs, o.outputs = len(self.codes), reads, [result]
        o.builtinOptions = options
        o.builtinOptionsType = getattr(schema.BuiltinOptions, type(options).__name__.removesuffix("T"))
        self.codes.append(code)
        self.graph.operators.append(o)

    def bytes(self, first, last):
        self.graph.inputs, self.graph.outputs = [first], [last]
        m = schema.ModelT()
        m.version, m.subgraphs, m.buffers, m.operatorCodes = 3, [self.graph], self.buffers, self.codes
        b = flatbuffers.Builder(1 << 20)
        b.Finish(m.Pack(b), b"TFL3")
        return bytes(b.Output())


def convert(model):
    out = Writer()
    n, c, h, w = model.x.shape
    values = {"input": (out.tensor((n, h, w, c)), h, w, c)}
    for l in model.layers:
        (source, h, w, c), *others = (values[name] for name in models.inputs(l))
        reads = [source]
        if "weight" in l:
            kernel, bias = model.tensors[l["weight"]], model.tensors[l["bias"]]
            c = len(bias)
            if l["op"] == "dwconv":
                kernel = kernel[:, 0].transpose(1, 2, 0)[None]
            elif l["op"] != "fc":
                kernel = kernel.transpose(0, 2, 3, 1)
            reads += [out.tensor(kernel.shape, kernel), out.tensor(bias.shape, bias)]
        if "stride" in l:
            (sh, sw), (dh, dw) = l["stride"], l["dilation"]
            h, w = -(-h // sh), -(-w // sw)
            options = schema.DepthwiseConv2DOptionsT() if l["op"] == "dwconv" else schema.Conv2DOptionsT()
            options.padding, options.strideH, options.strideW = schema.Padding.SAME, sh, sw
            options.dilationHFactor, options.dilationWFactor = dh, dw
            if l["op"] == "dwconv":
                options.depthMultiplier = 1
            name, version = ("DEPTHWISE_CONV_2D" if l["op"] == "dwconv" else "CONV_2D"), 3
        elif l["op"] == "global_avg_pool":
            h = w = 1
            reads.append(out.tensor((2,), np.array([1, 2], np.int32)))
            options, name, version = schema.ReducerOptionsT(), "MEAN", 1
            options.keepDims = True
        elif l["op"] == "add":
            reads.append(others[0][0])
            options, name, version = schema.AddOptionsT(), "ADD", 1
        else:
            options, name, version = schema.FullyConnectedOptionsT(), "FULLY_CONNECTED", 1
        if l["activation"] == "relu6":
            options.fusedActivationFunction = schema.ActivationFunctionType.RELU6
        result = out.tensor((n, c) if l["op"] == "fc" else (n, h, w, c))
        out.operator(name, options, reads, result, version)
        values[l["output"]] = (result, h, w, c)
    return out.bytes(values["input"][0], result)


def prepare(model, variant, threads):
    interpreter = Interpreter(model_content=convert(model), num_threads=threads)
    interpreter.allocate_tensors()
    ops = [op["op_name"] for op in interpreter._get_ops_details()]
    assert ops.count("DELEGATE") == 1, f"not all in the XNNPACK delegate: {ops}"
    x, y = interpreter.get_input_details()[0]["index"], interpreter.get_output_details()[0]["index"]
    interpreter.set_tensor(x, np.ascontiguousarray(model.x.transpose(0, 2, 3, 1)))
    # The C++ method: the Python wrapper around it costs some microseconds.
    invoke = interpreter._interpreter.Invoke
    return lambda _keep=interpreter: invoke(), lambda: interpreter.get_tensor(y)


worker.serve(["nhwc same"], {"ai-edge-litert": importlib.metadata.version("ai-edge-litert")}, prepare)
