"""The tables of a record, in Markdown:  python report.py [FILE.csv]"""
import os
import statistics
import sys

import record

TITLES = {"block": "Blocks: depthwise, then pointwise", "dw": "Depthwise stage alone", "pw": "Pointwise stage alone",
          "network": "Networks"}
OURS = "depthwise"
LIBRARIES = {"onnxruntime": "ONNX Runtime", "xnnpack": "XNNPACK", "torch": "PyTorch", "openvino": "OpenVINO", "ncnn": "ncnn",
             "rten": "rten", "tract": "tract", "candle": "candle", "burn": "burn"}
RUST = ["rten", "tract", "candle", "burn"]


def markdown(document):
    everything, versions = document["results"], document["versions"]
    results = as_users_have_them(everything)
    recorded = f", recorded in {document['recorded in']}" if "recorded in" in document else ""
    lines = [f"{document['date']}, {document['cpu']}, {document['cpus']} CPUs. "
             f"The fastest call of {document['rounds']} slices of {document['slice_ms']:g} ms, in µs; bold is the best "
             "of a row. A library with several variants is given its best one. "
             "Below 1, “ours / best peer” is a win of this crate.",
             *(["", "Tensors lie as large `Vec`s do, but where libraries have tensors of their own, and in networks."]
               if any(r.get("placement") == "vec" for r in results) else []),
             *(line for note in document.get("notes", []) for line in ("", note)),
             "", f"Compiler: {document.get('compiler', 'unknown')}. Commit: {document.get('commit', 'unknown')}{recorded}.",
             "", "Versions: " + ", ".join(f"{name} {version}" for name, version in sorted(versions.items())) + ".",
             "", "## In short", *summary(results), *distance(results)]
    for part, title in TITLES.items():
        for threads in sorted({r["threads"] for r in results if r["part"] == part}):
            rows = [r for r in results if (r["part"], r["threads"]) == (part, threads)]
            lines += ["", f"## {title}, {threads} thread{'s'[:threads - 1]}", "", *table(rows)]
    two_pass = [r for r in results if r["peer"] == OURS and r["part"] == "block"]
    if any("two-pass" in r["variant"] for r in two_pass):
        lines += ["", "## This crate: one pass or two", "", *passes(two_pass)]
    placed = [r for r in everything if r["peer"] == OURS and "two-pass" not in r["variant"] and "placement" in r]
    if any(r["placement"] == "vec" for r in placed):
        lines += ["", "## This crate: where tensors lie", "", *placements(placed)]
    if document["failures"]:
        lines += ["", "## Not measured", ""]
        for f in document["failures"]:
            words = [f[key] for key in ("peer", "variant", "placement", "name", "part") if f.get(key)]
            lines.append(f"- {' '.join(words)}, threads {f['threads']}: {f['failure']}")
    return "\n".join(lines) + "\n"


def as_users_have_them(results):
    """Of what was measured in both placements, that of plain `Vec`s: few programs have tensors on cache lines."""
    key = ("name", "part", "threads", "peer", "variant")
    vecs = {tuple(r[k] for k in key) for r in results if r.get("placement") == "vec"}
    return [r for r in results if r.get("placement") != "lines" or tuple(r[k] for k in key) not in vecs]


def placements(results):
    """Tensors on cache lines and as `Vec`s lie, the better layout of each, and the latter's time over the former's."""
    parts = [p for p in ("block", "dw", "pw") if any(r["part"] == p for r in results)]
    columns = [(part, t) for part in parts for t in sorted({r["threads"] for r in results})]
    heads = [f"{part}, {t} thread{'s'[:t - 1]}" for part, t in columns]
    yield "| | " + " | ".join(f"{head}: lines / vec | ratio" for head in heads) + " |"
    yield "|---|" + "---:|" * (2 * len(heads))
    for name in dict.fromkeys(r["name"] for r in results if r["part"] in parts):
        cells = []
        for part, t in columns:
            lines, vec = (best([r for r in results if (r["name"], r["part"], r["threads"], r["placement"])
                                == (name, part, t, placement)]) for placement in ("lines", "vec"))
            cells += [f"{digits(lines)} / {digits(vec)}", f"{vec / lines:.2f}"] if lines and vec else ["–", "–"]
        yield f"| `{name}` | " + " | ".join(cells) + " |"


def summary(results):
    """Ours in its best layout, the best of the C++ and of the Rust libraries, and how many times as fast ours is."""
    threads = sorted({r["threads"] for r in results})
    for part, what in (("block", "Blocks"), ("dw", "The depthwise stage alone"), ("network", "Networks")):
        rows = [r for r in results if r["part"] == part and "two-pass" not in r["variant"]]
        if not rows:
            continue
        heads = [f"ours, {t} thread{'s'[:t - 1]} | best C++ | best Rust | times as fast" for t in threads]
        yield from ("", f"{what}:", "", f"| | {' | '.join(heads)} |", "|---|" + "--:|" * (4 * len(threads)))
        factors = {t: [] for t in threads}
        for name in dict.fromkeys(r["name"] for r in rows):
            cells = []
            for t in threads:
                of = [r for r in rows if (r["name"], r["threads"]) == (name, t)]
                fastest = [min((r for r in of if r["peer"] in peers), key=lambda r: r["us_min"], default=None)
                           for peers in ([OURS], [p for p in LIBRARIES if p not in RUST], RUST)]
                ours, *others = fastest
                peer = min((r["us_min"] for r in others if r), default=None)
                times = [digits(r and r["us_min"]) for r in fastest]
                labels = [f"{time} {LIBRARIES[r['peer']]}" if r else "–" for time, r in zip(times[1:], others)]
                if ours and peer:
                    factors[t].append(peer / ours["us_min"])
                    times[0] = f"**{times[0]}**" if factors[t][-1] > 1 else times[0]
                cells += [times[0], *labels, f"{factors[t][-1]:.2f}" if ours and peer else "–"]
            yield f"| `{name}` | " + " | ".join(cells) + " |"
        counts = [f"{sum(f > 1 for f in factors[t])} of {len(factors[t])} with {t} thread{'s'[:t - 1]}, "
                  f"{sum(f >= 1.3 for f in factors[t])} of them by 30 % or more" for t in threads]
        yield from ("", f"The fastest: ours in {'; '.join(counts)}.")


def distance(results):
    """Between cores: a virtual machine's CPUs move, and some rows may have been measured while they were far apart alone."""
    spans = {(r["name"], r["part"], r["threads"]): r["hand_over_ns"] for r in results if "hand_over_ns" in r}
    if not spans:
        return
    usual = statistics.median(least for least, _ in spans.values())
    near, far = min(least for least, _ in spans.values()), max(most for _, most in spans.values())
    apart = [f"`{name}` {part} ({threads} threads)" for (name, part, threads), (least, _) in spans.items()
             if least > 2 * usual]
    yield from ("", f"A cache line went from thread to thread in {near:.0f} to {far:.0f} ns. Rows that were measured at the slow "
                f"times alone: {', '.join(apart) or 'none'}.")


def best(rows):
    return min((r["us_min"] for r in rows), default=None)


def digits(us):
    return "–" if us is None else f"{us:,.1f}" if us < 100 else f"{us:,.0f}"


def table(rows):
    """A line per model, a column per peer; ours by layout, in one pass where there is a choice."""
    rows = [r for r in rows if "two-pass" not in r["variant"]]
    columns = {}
    for r in rows:
        column = f"{OURS} {r['variant']}" if r["peer"] == OURS else r["peer"]
        columns.setdefault(column, []).append(r)
    order = sorted(columns, key=lambda column: (not column.startswith(OURS), column))
    yield "| | " + " | ".join(order) + " | ours / best peer |"
    yield "|---|" + "---:|" * (len(order) + 1)
    for name in dict.fromkeys(r["name"] for r in rows):
        times = {column: best([r for r in columns[column] if r["name"] == name]) for column in order}
        fastest = min(time for time in times.values() if time)
        cells = [f"**{digits(time)}**" if time == fastest else digits(time) for time in times.values()]
        ours = best([r for r in rows if r["name"] == name and r["peer"] == OURS])
        peers = best([r for r in rows if r["name"] == name and r["peer"] != OURS])
        cells.append(f"{ours / peers:.2f}" if ours and peers else "–")
        yield f"| `{name}` | " + " | ".join(cells) + " |"


def passes(rows):
    """What `Fusion::Auto` does and `Fusion::TwoPass`, and one's time over the other's."""
    columns = [(layout, threads) for threads in sorted({r["threads"] for r in rows}) for layout in ("nhwc", "nchw")]
    heads = [f"{layout}, {threads} thread{'s'[:threads - 1]}" for layout, threads in columns]
    yield "| | " + " | ".join(f"{head}: auto / two-pass | ratio" for head in heads) + " |"
    yield "|---|" + "---:|" * (2 * len(heads))
    for name in dict.fromkeys(r["name"] for r in rows):
        cells = []
        for layout, threads in columns:
            one, two = (best([r for r in rows if (r["name"], r["threads"], r["variant"]) == (name, threads, variant)])
                        for variant in (layout, f"{layout} two-pass"))
            cells += [f"{digits(one)} / {digits(two)}", f"{one / two:.2f}"] if one and two else ["–", "–"]
        yield f"| `{name}` | " + " | ".join(cells) + " |"


if __name__ == "__main__":
    here = os.path.dirname(os.path.abspath(__file__))
    path = sys.argv[1] if len(sys.argv) > 1 else os.path.join(here, "results.csv")
    try:
        print(markdown(record.read(path)), end="")
    except OSError as error:
        sys.exit(f"{path} cannot be read ({error.strerror}): name a record, such as ../record/zen4/2026-11-28-peers.csv")
    except ValueError as error:
        sys.exit(f"{path} is no record of other libraries ({error}): name a CSV file that run.py wrote")
