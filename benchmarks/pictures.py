"""CPU seconds of the W&B sink per probe, as a mean over ten probes, without uploading.

python benchmarks/pictures.py [--languages 25] [--layers 32] [--rounds 3]
"""

import argparse
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path

import records
from neuronxa_callback.history.records import read_reports
from neuronxa_callback.show.wandb_sink import WandbSink


def seconds_per_probe(reports):
    """CPU seconds of this process per report: scalars, charts and pictures."""
    import wandb

    with wandb.init(project="pictures"):
        sink = WandbSink()
        began = time.process_time()
        for report in reports:
            sink.write(report)
        return (time.process_time() - began) / len(reports)


def main():
    options = argparse.ArgumentParser()
    options.add_argument("--languages", type=int, default=25)
    options.add_argument("--layers", type=int, default=32)
    options.add_argument("--rounds", type=int, default=3)
    given = options.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        os.environ |= {"WANDB_MODE": "offline", "WANDB_DIR": folder, "WANDB_SILENT": "true"}
        path = Path(folder) / "reports.jsonl"
        records.write_record(path, 10, given.languages, given.layers)
        reports = read_reports(path)
        measured = [seconds_per_probe(reports) for _ in range(given.rounds)]
    mean = statistics.mean(measured)
    print(f"{given.languages} languages x {given.layers} layers x 2 metrics, ten probes:", end=" ")
    print(f"{mean:.2f} CPU seconds a probe ({', '.join(f'{x:.2f}' for x in measured)})")
    return 0


if __name__ == "__main__":
    sys.exit(main())
