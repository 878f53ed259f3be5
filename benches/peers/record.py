"""A record as CSV: `# key: value` lines that say what was measured, a header, then one measurement a line.

A line without times is a variant that was not measured, and says why."""
import csv
import itertools

COLUMNS = ["name", "part", "threads", "peer", "variant", "placement", "error", "rounds", "us_min", "us_med", "hand_over_ns_min",
           "hand_over_ns_max", "failure"]
# What each head has, in this order; notes and versions follow.
HEAD = ["date", "cpu", "cpus", "compiler", "commit", "recorded in", "rounds", "slice_ms"]
TYPES = {"threads": int, "cpus": int, "rounds": int, "slice_ms": float, "error": float, "us_min": float, "us_med": float,
         "hand_over_ns_min": float, "hand_over_ns_max": float}
# Columns that earlier records do not have.
LATER = ["placement"]
# Columns that may be empty text: a peer that did not start has no name of a block.
TEXTS = ["name", "part", "variant"]


def write(file, document):
    for key in HEAD:
        if key in document:
            value = document[key]
            file.write(f"# {key}: {f'{value:g}' if isinstance(value, float) else value}\n")
    for note in document.get("notes", []):
        file.write(f"# note: {note}\n")
    for name, version in sorted(document["versions"].items()):
        file.write(f"# version {name}: {version}\n")
    lines = csv.DictWriter(file, COLUMNS, lineterminator="\n")
    lines.writeheader()
    for result in document["results"]:
        line = dict(result)
        if "hand_over_ns" in line:
            line["hand_over_ns_min"], line["hand_over_ns_max"] = line.pop("hand_over_ns")
        lines.writerow(line)
    lines.writerows(document["failures"])


def read(path):
    document = {"notes": [], "versions": {}, "results": [], "failures": []}
    with open(path, newline="", encoding="utf-8") as file:
        lines = file.readlines()
    head = list(itertools.takewhile(lambda line: line.startswith("# "), lines))
    for line in head:
        key, _, value = line[2:].strip().partition(": ")
        if key == "note":
            document["notes"].append(value)
        elif key.startswith("version "):
            document["versions"][key.removeprefix("version ")] = value
        else:
            document[key] = typed(key, value)
    table = csv.DictReader(lines[len(head):])
    missing = [key for key in ("date", "cpu", "cpus", "rounds", "slice_ms") if key not in document]
    missing += [column for column in COLUMNS if column not in [*LATER, *(table.fieldnames or [])]]
    if missing:
        raise ValueError(f"it has no {missing[0]}")
    for line in table:
        here = {key: typed(key, value) for key, value in line.items() if value or key in TEXTS}
        least, most = here.pop("hand_over_ns_min", None), here.pop("hand_over_ns_max", None)
        if least is not None:
            here["hand_over_ns"] = [least, most]
        document["failures" if "failure" in here else "results"].append(here)
    return document


def typed(key, text):
    return TYPES.get(key, str)(text)
