"""The example: on a local cluster of two workers, the bits of one process, and the classes that the network's reference has."""

import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[4]
EXAMPLE = ROOT / "bindings/python/examples/classify_folder.py"
MODELS = ROOT / "examples/models"
# Ray's workers are nice to other programs by default, and get nothing done where these leave no CPU.
ENVIRONMENT = {**os.environ, "RAY_worker_niceness": "0"}


def classify(*options):
    command = [sys.executable, str(EXAMPLE), str(MODELS / "images"), *options]
    run = subprocess.run(command, capture_output=True, text=True, timeout=300, env=ENVIRONMENT)
    assert run.returncode == 0, run.stderr
    return run.stdout.splitlines()


def test_two_workers_have_the_bits_of_one_process():
    alone = classify("--workers", "0")
    assert len(alone) == 5
    assert classify("--workers", "0", "--batch", "3") == alone
    # With as many CPUs as workers none would be left for reading.
    assert classify("--workers", "2", "--cpus", "4", "--batch", "1") == alone


def test_the_classes_are_those_of_the_reference():
    reference = json.loads((MODELS / "efficientnet_lite0/reference.json").read_text(encoding="utf-8"))
    best = {f"{image['image']}.png": image["top"][0] for image in reference["images"]}
    lines = classify("--workers", "0")[:-1]
    assert len(lines) == 4
    for line in lines:
        name, found = line.split(": ", 1)
        assert found == f"{best[name]['label']} ({best[name]['prob']:.1%})"


def test_a_cluster_without_a_cpu_to_read_is_refused():
    command = [sys.executable, str(EXAMPLE), str(MODELS / "images"), "--workers", "2", "--cpus", "2"]
    run = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert run.returncode == 2
    assert "2 CPUs for 2 workers leave none for reading" in run.stderr
