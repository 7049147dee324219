"""Memory of reading a large record, and the size of what a checkpoint keeps of it.

    python benchmarks/records.py [--probes 300] [--languages 200] [--layers 100] [--folder DIR]

The record has random but consistent verdicts of 100 pairs and two metrics. Each reader runs in a
process of its own; its memory is the peak above that of its imports.
"""

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

READERS = {
    "history.read": (
        "from neuronxa_callback.history.history import History",
        "assert len(History.read(path).points) == probes",
    ),
    "neuronxa compare first last": (
        "from neuronxa_callback.cli.compare import ReportDiff\n"
        "from neuronxa_callback.cli.run_record import select_report",
        "ReportDiff(select_report(f'{path}@first'), select_report(f'{path}@last'), None).to_json()",
    ),
    "neuronxa compare first best": (
        "from neuronxa_callback.cli.compare import ReportDiff\n"
        "from neuronxa_callback.cli.run_record import select_report",
        "ReportDiff(select_report(f'{path}@first'), select_report(f'{path}@best'), None).to_json()",
    ),
    "neuronxa page": (
        "from neuronxa_callback.cli.run_record import read_curves\n"
        "from neuronxa_callback.show.page.page import write_page",
        "write_page({'run': read_curves(path)[0]['large']}, path + '.html')",
    ),
}
MEASURED = """
import sys
path, probes = sys.argv[1], int(sys.argv[2])
{imports}
def peak():
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmHWM"))
before = peak()
{read}
print((peak() - before) / 1000)
"""


def metric(draw, names, layers, pairs):
    """The scores of a metric as JSON values."""
    verdicts = {name: [draw.getrandbits(pairs) for _ in range(layers)] for name in names}
    counts = {name: [mask.bit_count() for mask in masks] for name, masks in verdicts.items()}

    def interval():
        return sorted((round(draw.random(), 4), round(draw.random(), 4)))

    def per_pair(least, most):
        return {name: [draw.randint(least, most) for _ in range(pairs)] for name in names}

    return {
        "layers": list(range(layers)),
        "hits": {name: [f"{mask:025x}" for mask in masks] for name, masks in verdicts.items()},
        "pivot_to_target": counts,
        "target_to_pivot": counts,
        "mutual": counts,
        "intervals": {name: interval() for name in (*names, "mean")},
        "layer_intervals": {name: [interval() for _ in range(layers)] for name in names},
        "sole_blocks": per_pair(0, layers),
        "second_differences": per_pair(-layers, layers),
        "blockers": {name: [sum(k), layers * pairs - sum(k)] for name, k in counts.items()},
        "hubs": {name: [["target", draw.randrange(pairs), 20, 3]] * layers for name in names},
        "hub_limited": [],
    }


def write_record(path, probes, languages, layers, pairs=100):
    """A record whose reports have one of four sets of scores."""
    draw = random.Random(0)
    names = [f"l{k:03d}_Latn" for k in range(languages)]
    bodies = []
    for _ in range(min(4, probes)):
        metrics = {name: metric(draw, names, layers, pairs) for name in ("nasca", "navca")}
        report = {"pivot": "eng_Latn", "languages": names, "n_pairs": pairs, "metrics": metrics}
        report |= {"fingerprint": {"definition": {}, "model": {}, "environment": {}}}
        report |= {"diagnostics": {}, "warnings": [], "run": {"id": "large", "seconds": 1.0}}
        bodies.append(json.dumps(report, separators=(",", ":"))[1:])
    with path.open("w") as file:
        for k in range(probes):
            file.write(f'{{"schema":3,"step":{100 * k},{bodies[k % len(bodies)]}\n')


def measure(path, probes, imports, read):
    """(peak above the imports in MB, seconds) of a reader in a process of its own."""
    code = MEASURED.format(imports=imports, read=read)
    command = (sys.executable, "-c", code, str(path), str(probes))
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    began = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    if done.returncode:
        raise SystemExit(done.stderr)
    return float(done.stdout), time.perf_counter() - began


def log_history(path):
    """(keys, bytes of JSON) of the row of one report in ``state.log_history``."""
    from types import SimpleNamespace

    from neuronxa_callback import AlignmentReport, trainer_events

    with path.open() as file:
        report = AlignmentReport.from_json(file.readline())
    state = SimpleNamespace(log_history=[], epoch=1.0, global_step=100)
    trainer_events.log_row(state, report.scalars())
    return len(state.log_history[0]), len(json.dumps(state.log_history, indent=2))


def main():
    options = argparse.ArgumentParser()
    options.add_argument("--probes", type=int, default=300)
    options.add_argument("--languages", type=int, default=200)
    options.add_argument("--layers", type=int, default=100)
    options.add_argument("--folder", default=None)
    given = options.parse_args()
    with tempfile.TemporaryDirectory(dir=given.folder) as folder:
        path = Path(folder) / "reports.jsonl"
        write_record(path, given.probes, given.languages, given.layers)
        print(
            f"{given.probes} probes x {given.languages} languages x {given.layers} layers:", end=""
        )
        print(f" {path.stat().st_size / 1e6:.0f} MB")
        for name, (imports, read) in READERS.items():
            megabytes, seconds = measure(path, given.probes, imports, read)
            print(f"{name:28} {megabytes:6.0f} MB above its imports, {seconds:5.0f} s", flush=True)
        keys, size = log_history(path)
        print(f"log_history: {keys} keys and {size / 1e3:.0f} kB a probe,", end=" ")
        print(f"{size * given.probes / 1e6:.1f} MB in trainer_state.json")


if __name__ == "__main__":
    main()
