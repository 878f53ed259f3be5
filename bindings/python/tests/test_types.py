"""The types that are declared are those that there are."""

import subprocess
import sys
from pathlib import Path


HERE = Path(__file__).parent


def test_the_stubs_are_what_the_module_has(tmp_path):
    # What is written in Python has its types in itself, and may need packages that are not here.
    options = ["--ignore-disjoint-bases", "--allowlist", HERE / "stubtest.txt", "--ignore-unused-allowlist"]
    command = [sys.executable, "-m", "mypy.stubtest", "depthwise", *options, "--mypy-config-file", HERE / "mypy.ini"]
    run = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert run.returncode == 0, run.stdout + run.stderr
    assert "no issues found" in run.stdout


def test_a_program_has_types(tmp_path):
    program = tmp_path / "program.py"
    program.write_text(
        """
import numpy as np
import depthwise

plan = depthwise.Conv2d(np.ones((8, 1, 3, 3)), groups=8, padding=(1, 1), activation=("clamp", 0, 6), layout="nhwc")
y = plan(np.ones((1, 4, 4, 8), np.float32), threads=2)
shape: tuple[int, int, int, int] = plan.output_shape((1, 4, 4, 8))
depthwise.PointwiseConv2d([[1.0]], batch_norm=depthwise.BatchNorm([1], [0], [0], [1]))
depthwise.PointwiseConv2d([[1.0]], activation="rely")

from depthwise import int8

w, q = int8.Weights(np.ones((8, 4), np.int8), 0.5), int8.Quantized("uint8", 0.5, 128)
y = int8.PointwiseConv2d(w, input=q, output="int32")(np.ones((1, 4, 4, 4), np.uint8), threads=2)
int8.PointwiseConv2d(w, input=q, output=q, rounding="up")
""",
        encoding="utf-8",
    )
    run = subprocess.run([sys.executable, "-m", "mypy", str(program)], capture_output=True, text=True, cwd=tmp_path)
    assert "program.py:9: error" in run.stdout, run.stdout
    assert "program.py:15: error" in run.stdout, run.stdout
    assert "Found 2 errors" in run.stdout, run.stdout
