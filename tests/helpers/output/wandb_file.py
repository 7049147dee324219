"""Reads what an offline W&B run wrote: the records of its ``.wandb`` file, in order."""

import json
import struct
from pathlib import Path

from neuronxa_callback.show.wandb_sink import WandbSink


def records(path):
    """LevelDB's log format: a header of 7 bytes, blocks of 32 KiB, fragments with 7 bytes each."""
    from wandb.proto import wandb_internal_pb2 as pb

    data = path.read_bytes()
    assert data[:4] == b":W&B"
    place, record = 7, b""
    while place + 7 <= len(data):
        left = 32768 - place % 32768
        if left < 7:
            place += left
            continue
        _, length, kind = struct.unpack("<IHB", data[place : place + 7])
        if kind == 0 and length == 0:
            place += 7
            continue
        piece = data[place + 7 : place + 7 + length]
        place += 7 + length
        record = piece if kind in (1, 2) else record + piece
        if kind in (1, 4):
            parsed = pb.Record()
            parsed.ParseFromString(record)
            yield parsed


def plain(items):
    """Items of a record as a dictionary, nested keys joined with a slash."""
    return {"/".join(item.nested_key) or item.key: json.loads(item.value_json) for item in items}


def history(path):
    """The logged rows."""
    return [
        plain(r.history.item) for r in records(path) if r.WhichOneof("record_type") == "history"
    ]


def summary(path):
    """The last value of everything in the summary."""
    values = {}
    for record in records(path):
        if record.WhichOneof("record_type") == "summary":
            values |= plain(record.summary.update)
    return values


def kinds(path):
    """The kinds of records."""
    return [record.WhichOneof("record_type") for record in records(path)]


def metrics(path):
    """name -> x-axis of every defined metric."""
    axes, names = {}, {}
    for record in records(path):
        if record.WhichOneof("record_type") == "metric":
            metric = record.metric
            names[len(names) + 1] = metric.name
            axes[metric.name] = metric.step_metric or names.get(metric.step_metric_index)
    return axes


def hidden_metrics(path):
    """The names of defined metrics without a panel."""
    every = [r.metric for r in records(path) if r.WhichOneof("record_type") == "metric"]
    return {metric.name for metric in every if metric.options.hidden}


def config(path):
    """The run's configuration."""
    entries = {}
    for record in records(path):
        kind = record.WhichOneof("record_type")
        if kind == "config":
            entries |= plain(record.config.update)
        elif kind == "run":
            entries |= plain(record.run.config.update)
    return entries


def artifact(path, kind):
    """The files of the only artifact of a kind."""
    every = [r.artifact for r in records(path) if r.WhichOneof("record_type") == "artifact"]
    (only,) = (one for one in every if one.type == kind)
    return list(only.manifest.contents)


def text(path, kind, name):
    """The text of one file of the only artifact of a kind."""
    (file,) = (file for file in artifact(path, kind) if file.path == name)
    return Path(file.local_path).read_text(encoding="utf-8")


def media(path, row, key):
    """The file that a row of the history names under a key."""
    return path.parent / "files" / row[f"{key}/path"]


def log(*reports, **options):
    """Log reports to a W&B run."""
    import wandb

    with wandb.init(project="p"):
        sink = WandbSink(**options)
        for report in reports:
            sink.write(report)
        sink.close()
    wandb.teardown()
