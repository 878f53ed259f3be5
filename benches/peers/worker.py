"""A library as a worker of run.py: `peer_NAME.py THREADS`, requests on stdin, answers on stdout, one JSON line each.

  first line                                       {"variants", "versions"}
  {"cmd": "prepare", "model", "variant", "output"} build a variant on a model folder, write its output, raw, to a
                                                   file: {"layout": "nchw" or "nhwc", "same": TensorFlow's padding}
  {"cmd": "time", "variant", "ms", "warm"}         {"us_min", "us_med"}
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


def serve(variants, versions, prepare):
    """prepare(model, variant, threads) returns what computes the output once, and what reads it (NCHW or NHWC, as the
    variant's name begins)."""
    threads = int(sys.argv[1])
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # what the libraries print
    answers.write(json.dumps({"variants": variants, "versions": versions}) + "\n")
    calls = {}
    for line in sys.stdin:
        request = json.loads(line)
        try:
            if request["cmd"] == "prepare":
                variant = request["variant"]
                call, output = prepare(models.load(request["model"]), variant, threads)
                call()
                np.ascontiguousarray(output(), np.float32).tofile(request["output"])
                calls[variant] = call
                answer = {"layout": variant[:4], "same": variant.endswith("same")}
            elif request["cmd"] == "time":
                answer = time_slice(calls[request["variant"]], request["ms"], request["warm"])
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
