"""A library as a worker of run.py: `peer_NAME.py THREADS`, requests on stdin, answers on stdout, one JSON line each.

  first line                                       {"variants", "placements", "versions"}
  {"cmd": "prepare", "model", "variant",           build a variant on a model folder, write its output, raw, to a
   "placement", "output"}                          file: {"layout": "nchw" or "nhwc", "same": TensorFlow's padding}
  {"cmd": "time", "variant", "placement", "ms",    {"us_min", "us_med"}
   "warm"}
  {"cmd": "clear"}                                 drop all that was prepared
  a failure                                        {"error"}
"""
import json
import os
import sys
import time
import traceback

import numpy as np

import models


PAGE = 4096
# Bytes from the start of a page, of an input and of an output: examples/blocks has the same.
OFFSETS = {"lines": [64, 64 + PAGE // 2], "vec": [16, 16]}


def placed(values, offset):
    """A copy that lies so many bytes behind the start of a page."""
    room = np.empty(values.nbytes + PAGE + offset, np.uint8)
    start = -room.ctypes.data % PAGE + offset
    copy = room[start:start + values.nbytes].view(values.dtype).reshape(values.shape)
    copy[...] = values
    return copy


def serve(variants, versions, prepare, placements=("own",)):
    """prepare(model, variant, threads) returns what computes the output once, and what reads it (NCHW or NHWC, as the
    variant's name begins). Where `placements` are others than the library's own, it is also given the offsets of input and
    output."""
    threads = int(sys.argv[1])
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # what the libraries print
    answers.write(json.dumps({"variants": variants, "placements": placements, "versions": versions}) + "\n")
    calls = {}
    for line in sys.stdin:
        request = json.loads(line)
        try:
            if request["cmd"] == "prepare":
                variant, placement = request["variant"], request["placement"]
                offsets = () if placement == "own" else OFFSETS[placement]
                call, output = prepare(models.load(request["model"]), variant, threads, *offsets)
                call()
                np.ascontiguousarray(output(), np.float32).tofile(request["output"])
                calls[variant, placement] = call
                answer = {"layout": variant[:4], "same": variant.endswith("same")}
            elif request["cmd"] == "time":
                answer = time_slice(calls[request["variant"], request["placement"]], request["ms"], request["warm"])
            else:
                calls.clear()
                answer = {}
        except Exception as error:  # whatever it is, the run goes on
            traceback.print_exc()
            answer = {"error": f"{type(error).__name__}: {error}"[:300]}
        answers.write(json.dumps(answer) + "\n")


def time_slice(call, ms, warm):
    """Times single calls for `ms` milliseconds, after a warm-up: the fastest and the median."""
    clock = time.perf_counter_ns
    start = clock()
    call()
    while clock() - start < warm * 1e6:
        call()
    times = []
    start = clock()
    while len(times) < 2 or clock() - start < ms * 1e6:
        a = clock()
        call()
        times.append(clock() - a)
    times.sort()
    return {"us_min": times[0] / 1e3, "us_med": times[len(times) // 2] / 1e3}
