"""Times depthwise separable blocks and whole networks in this crate and in other libraries: see README.md."""
import argparse
import contextlib
import datetime
import json
import os
import platform
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import time

import numpy as np

import models
import record
import report

HERE = os.path.dirname(os.path.abspath(__file__))
RECORDS = os.path.join(os.path.dirname(HERE), "record")
PYTHON = ["onnxruntime", "xnnpack", "torch", "openvino", "ncnn"]
RUST = ["depthwise", "rten", "tract", "candle", "burn"]
TOLERANCE = 1e-4  # of the largest value in the reference


class Failure(Exception):
    pass


class Worker:
    """A peer's process, stopped while it is not its turn: nobody's spinning threads disturb the next."""

    def __init__(self, peer, threads, binary, log):
        self.peer = peer
        script = [sys.executable, os.path.join(HERE, f"peer_{peer}.py")]
        command = ([binary, peer] if peer in RUST else script) + [str(threads)]
        # NumPy's own threads have nothing to do; candle reads how many it may use from rayon's variable.
        env = dict(os.environ, OPENBLAS_NUM_THREADS="1", OMP_NUM_THREADS=str(threads), RAYON_NUM_THREADS=str(threads))
        try:
            self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, env=env,
                                            text=True, bufsize=1, start_new_session=True)
        except OSError as error:
            raise Failure(f"it did not start: {error}") from None
        hello = self.read()
        self.variants, self.placements, self.versions = (hello[key] for key in ("variants", "placements", "versions"))

    def ask(self, **request):
        self.signal(signal.SIGCONT)
        try:
            self.process.stdin.write(json.dumps(request) + "\n")
        except OSError:
            raise Failure("its process died") from None
        return self.read()

    def read(self):
        # Some libraries print while they load.
        line = next((line for line in self.process.stdout if line.startswith("{")), None)
        if line is None:
            raise Failure(f"its process died, with {self.process.wait()}")
        self.signal(signal.SIGSTOP)
        answer = json.loads(line)
        if "error" in answer:
            raise Failure(answer["error"])
        return answer

    def signal(self, number):
        """To the process and its children."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, number)

    def close(self):
        self.signal(signal.SIGKILL)
        self.process.wait()


def checked_error(answer, path, references, model):
    """The largest error of an output file, relative to the largest value of the reference."""
    same = answer.get("same", False)
    if same not in references:
        references[same] = models.reference(model, same)
    expected = references[same]
    if answer["layout"] == "nhwc" and expected.ndim == 4:
        expected = expected.transpose(0, 2, 3, 1)
    output = np.fromfile(path, np.float32)
    if output.size != expected.size:
        raise Failure(f"wrong output: {output.size} elements instead of {expected.size}")
    error = float(np.abs(output - expected.ravel()).max() / np.abs(expected).max())
    if not error <= TOLERANCE:
        raise Failure(f"wrong output: off by {error:.1e} of its largest value")
    return error


def applies(peer, variant, placement, part):
    """Passes are a matter of blocks, and so is where tensors lie: those of a network are mostly its own. Here tract's channel-last
    model is wired for blocks only."""
    if part == "network" and placement == "vec":
        return False
    if variant.endswith("two-pass"):
        return part == "block"
    return part != "network" or (peer, variant) != ("tract", "nhwc")


def measure(workers, name, part, args, fail):
    """One configuration: prepares and checks every variant, then times them in turn, round after round."""
    with tempfile.TemporaryDirectory(prefix="peers-") as folder:
        model, path, references, entries = models.build(name, part), os.path.join(folder, "output"), {}, []
        model.save(folder)
        for worker, variant, placement in ((w, v, p) for w in workers for v in w.variants for p in w.placements):
            asked = args.placement == "both" or placement in (args.placement, "own") or part == "network"
            if not asked or not applies(worker.peer, variant, placement, part):
                continue
            try:
                answer = worker.ask(cmd="prepare", model=folder, variant=variant, placement=placement, output=path)
                entries.append({"worker": worker, "variant": variant, "placement": placement, "times": [],
                                "error": checked_error(answer, path, references, model)})
            except Failure as failure:
                fail(worker, variant, placement, failure)
    hand_over = []
    ours = next((worker for worker in workers if worker.peer == report.OURS), None)
    ms = args.ms * (4 if part == "network" else 1)
    for round_ in range(args.rounds):
        with contextlib.suppress(Failure):
            if ours and (ns := ours.ask(cmd="handover")["ns"]):
                hand_over.append(round(ns, 1))
        for entry in list(entries):
            # What is ten times slower than the best needs no more rounds to be known as slow.
            best = min((t["us_min"] for e in entries for t in e["times"]), default=np.inf)
            if round_ >= 2 and min((t["us_min"] for t in entry["times"]), default=np.inf) > 10 * best:
                continue
            try:
                times = entry["worker"].ask(cmd="time", variant=entry["variant"], placement=entry["placement"], ms=ms,
                                            warm=args.warm)
                entry["times"].append(times)
            except Failure as failure:
                entries.remove(entry)
                fail(entry["worker"], entry["variant"], entry["placement"], failure)
    for worker in workers:
        with contextlib.suppress(Failure):
            worker.ask(cmd="clear")
    return [{"peer": e["worker"].peer, "variant": e["variant"], "placement": e["placement"], "error": e["error"], "rounds": len(e["times"]),
             **({"hand_over_ns": [min(hand_over), max(hand_over)]} if hand_over else {}),
             "us_min": round(min(t["us_min"] for t in e["times"]), 2),
             "us_med": round(statistics.median(t["us_med"] for t in e["times"]), 2)} for e in entries]


def cpu():
    """The model's name; with the numbers of family and model, for virtual machines hide the rest."""
    try:
        with open("/proc/cpuinfo") as f:
            lines = (line.split(":") for line in f.read().split("\n\n")[0].splitlines())
            fields = {key.strip(): value.strip() for key, value in lines}
        return f"{fields['model name']} (family {fields['cpu family']}, model {fields['model']})"
    except (OSError, KeyError, ValueError):
        return platform.processor() or platform.machine()


def said(*command):
    """What a command says in one line: the compiler's version, the commit."""
    try:
        return subprocess.run(command, cwd=HERE, capture_output=True, text=True, check=True).stdout.strip() or "unknown"
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--peers", default=",".join(RUST[:1] + PYTHON + RUST[1:]))
    parser.add_argument("--blocks", default="", metavar="REGEX", help="of blocks and networks")
    parser.add_argument("--parts", default="block,dw,pw,network")
    parser.add_argument("--placement", default="both", choices=["both", "lines", "vec"],
                        help="where input and output lie, for libraries that take the caller's: see README.md")
    parser.add_argument("--threads", default="1,2")
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--ms", type=float, default=20,
                        help="a time slice, in milliseconds; networks: four times that")
    parser.add_argument("--warm", type=float, default=3, help="the warm-up before it")
    parser.add_argument("--binary", default=os.path.join(HERE, "target", "release", "peers"), help="the Rust peers")
    parser.add_argument("--output", default=os.path.join(HERE, "results.csv"))
    parser.add_argument("--merge", action="store_true", help="keep the output's other results")
    parser.add_argument("--note", action="append", default=[], help="what a reader of the results should know")
    parser.add_argument("--record", metavar="CPU", help="also write a new file of benches/record/CPU, such as zen4")
    args = parser.parse_args()
    today = datetime.date.today().isoformat()
    # A record is never written over: better to know before an hour of measuring than after it.
    kept = args.record and os.path.join(RECORDS, args.record, f"{today}-peers.csv")
    if kept and os.path.exists(kept):
        parser.error(f"{os.path.relpath(kept)} exists, and a record is never rewritten: run without --record, or on another day")

    document = {"notes": [], "versions": {}, "results": [], "failures": []}
    if args.merge and os.path.exists(args.output):
        document = record.read(args.output)
        document["failures"] = [f for f in document["failures"] if f["name"]]  # not those to start
    document.update(date=today, cpu=cpu(), cpus=os.cpu_count(), compiler=said("rustc", "--version"),
                    commit=said("git", "describe", "--always", "--dirty", "--exclude=*"), rounds=args.rounds,
                    slice_ms=args.ms)
    document.pop("recorded in", None)  # said of the other results alone
    document["notes"] += [" ".join(note.split()) for note in args.note]
    document["versions"]["python"] = platform.python_version()
    names = [b["name"] for b in models.blocks()]
    configurations = [(name, part) for part in args.parts.split(",")
                      for name in (models.NETWORKS if part == "network" else names) if re.search(args.blocks, name)]

    log = open(os.path.join(tempfile.gettempdir(), "peers.log"), "a")
    for threads in map(int, args.threads.split(",")):
        workers = []

        def fail(name, part, peer, variant, placement, failure):
            print(f"  {peer} {variant} {placement} failed on {name} {part}: {failure}", flush=True)
            document["failures"].append({"name": name, "part": part, "threads": threads, "peer": peer,
                                         "variant": variant, "placement": placement, "failure": str(failure)})

        try:
            for peer in args.peers.split(","):
                try:
                    workers.append(Worker(peer, threads, args.binary, log))
                    document["versions"].update(workers[-1].versions)
                except Failure as failure:
                    fail("", "", peer, "", "", failure)
            for number, (name, part) in enumerate(configurations, 1):
                start = time.time()
                here = (name, part, threads)
                peers = [w.peer for w in workers]
                for key in ("results", "failures"):  # those of an earlier run
                    document[key] = [r for r in document[key] if (r["name"], r["part"], r["threads"]) != here
                                     or r["peer"] not in peers]
                results = measure(workers, name, part, args,
                                  lambda worker, *what: fail(name, part, worker.peer, *what))
                results.sort(key=lambda r: r["us_min"])
                document["results"] += [{"name": name, "part": part, "threads": threads, **r} for r in results]
                with open(args.output, "w", encoding="utf-8") as f:
                    record.write(f, document)
                fastest = ", ".join(f"{r['peer']} {r['variant']} {r['placement']} {r['us_min']:.0f}" for r in results[:4])
                print(f"[{number}/{len(configurations)}] {name} {part}, {threads} thread{'s'[:threads - 1]}, "
                      f"{time.time() - start:.0f} s: {fastest}", flush=True)
        finally:  # nobody is left behind stopped
            for worker in workers:
                worker.close()
    print(f"\n{report.markdown(document)}")
    if kept:
        os.makedirs(os.path.dirname(kept), exist_ok=True)
        with open(kept, "x", encoding="utf-8") as f:
            record.write(f, document)
        print(f"written to {os.path.relpath(kept)}")


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    main()
