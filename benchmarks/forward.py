"""Measures the cost of a probe, compared with the bare forward pass of the real tokens.

    python benchmarks/forward.py --kinds nasca --out benchmarks/forward_nasca_<date>.md
    python benchmarks/forward.py --experts --shape 25M [--rounds 10] [--device cuda] [--out F]
    python benchmarks/forward.py --kinds nasca --batch-tokens 4096 512 1024 [--out F]
    python benchmarks/forward.py --other FOLDER --kinds nasca [--out F]

The floor is the bare forward pass of as many tokens as all sentences have, cut into rows of their
mean length, in full batches: no padding, no short batch. That of the probe's own microbatches is
reported beside it. Both use the same model object, in eval mode, without gradients, with logits of
one token. The probe adds hooks, pooling, scoring, intervals and a report. On a CPU with one thread,
the default, the seconds are those that this process computed. With several ``--batch-tokens``, both
floors have the first.

``--other`` names a checkout of another version. Each version then probes in a process of its own,
with the same model and sentences, and the processes take turns.
"""

import argparse
import os
import subprocess
import sys
from itertools import pairwise, product
from pathlib import Path

import torch

import subjects
from neuronxa_callback import ParallelCorpus, Probe, ProbeConfig
from neuronxa_callback.probe.batching import Sentence, collate, microbatches

HERE = Path(__file__).resolve().parents[1]
FLOOR = "bare forward of the real tokens"
OWN = "its own microbatches, bare"
KINDS = {
    "nasca": (("nasca",), ()),
    "nasca, navca": (("nasca", "navca"), ()),
    "nasca, navca, mexa": (("nasca", "navca", "mexa"), ()),
    "all four": (("nasca", "navca", "mexa", "mexa_last"), ()),
    "default, with diagnostics": (("nasca", "navca"), None),
}


def rows_of_one_length(sentences, batch_tokens):
    """The tokens of all sentences as rows of their mean length, in equal batches; none is lost."""
    ids = [token for sentence in sentences for token in sentence.ids]
    length = round(len(ids) / len(sentences))
    rows = [ids[k : k + length] for k in range(0, len(ids), length)]
    batches = -(-len(ids) // max(batch_tokens, length))
    bounds = [len(rows) * k // batches for k in range(batches + 1)]
    return [
        [Sentence(tuple(row), (False,) * len(row)) for row in rows[start:end]]
        for start, end in pairwise(bounds)
    ]


def bare(model, probe, padded=True):
    """A function that runs a probe's sentences and keeps no result.

    Args:
        model: The model.
        probe: Its sentences and ``batch_tokens`` are used.
        padded: Whether to run the probe's own microbatches; else the same tokens, cut into rows of
            one length.
    """
    _, groups = probe.tokenize(model)
    device = next(model.parameters()).device
    if padded:
        batches = [
            [groups[work.group].sentences(work.window)[row] for row in work.rows]
            for work in microbatches(groups, probe.batch_tokens)
        ]
    else:
        sides = [side for group in groups for side in (group.pivot, *group.targets)]
        batches = rows_of_one_length(
            [each for side in sides for each in side.sentences], probe.batch_tokens
        )
    batches = [collate(sentences, probe.tokenizer.pad) for sentences in batches]

    def run():
        with torch.no_grad():
            for batch in batches:
                model(
                    input_ids=batch.ids.to(device),
                    attention_mask=batch.mask.long().to(device),
                    use_cache=False,
                    logits_to_keep=1,
                )

    return run


def probe_of(corpus, tokenizer, kind, batch_tokens):
    """A probe of all pairs of a corpus."""
    metrics, diagnostics = KINDS[kind]
    options = {} if diagnostics is None else {"diagnostics": diagnostics}
    config = ProbeConfig(
        corpus=corpus, n_pairs=corpus.n_pairs, metrics=metrics, batch_tokens=batch_tokens, **options
    )
    return Probe(config, tokenizer)


def measure(model, tokenizer, corpus, kinds, rounds, batch_tokens=(4096,), device="cpu"):
    """(kind -> seconds per round, kind -> report); with several sizes, these are in the names."""
    calls, reports = {}, {}
    for kind, size in product(kinds, batch_tokens):
        name = kind if len(batch_tokens) == 1 else f"{kind}, {size}"
        probe = probe_of(corpus, tokenizer, kind, size)
        calls.setdefault(FLOOR, bare(model, probe, padded=False))
        calls.setdefault(OWN, bare(model, probe))
        calls[name] = lambda name=name, probe=probe: reports.update({name: probe.run(model)})
    return subjects.paired(calls, rounds, device), reports


def run_worker(options):
    """Runs one probe per line of the input, and prints its seconds."""
    model, tokenizer, corpus = subject_of(options)
    probe = probe_of(corpus, tokenizer, options.kinds[0], options.batch_tokens[0])
    probe.run(model)  # The first probe of a model also proves that it is read right.
    print("ready", flush=True)
    for _ in sys.stdin:
        print(subjects.seconds_of(lambda: probe.run(model)), flush=True)


class Version:
    """A process that probes with one version."""

    def __init__(self, folder):
        command = [sys.executable, __file__, "--worker", *sys.argv[1:]]
        environment = os.environ | {"PYTHONPATH": str(folder)}
        self.process = subprocess.Popen(
            command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def wait(self):
        """The next line that the process prints."""
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit("a version of the package failed; its error is above")
        return line

    def seconds(self):
        """Seconds of one probe."""
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        return float(self.wait())


def measure_versions(options):
    """Seconds per round of the same probe by this version and by another, in turn."""
    folders = {"this version": HERE, "other version": Path(options.other).resolve()}
    versions = {name: Version(folder) for name, folder in folders.items()}
    seconds = {name: [] for name in versions}
    for version in versions.values():
        version.wait()
    for k in range(options.rounds):
        for name in list(versions)[:: -1 if k % 2 else 1]:
            seconds[name].append(versions[name].seconds())
    for version in versions.values():
        version.process.stdin.close()
        version.process.wait()
    return seconds


def subject_of(options):
    """The model, its tokenizer and the corpus of a command line."""
    torch.set_num_threads(options.threads)
    if options.languages > len(subjects.TWELVE):
        corpus = ParallelCorpus.builtin("dev")
        corpus = corpus.select(corpus.languages[: options.languages])
    else:
        corpus = ParallelCorpus.builtin("dev", subjects.TWELVE[: options.languages])
    fewer = {} if options.layers is None else {"num_hidden_layers": options.layers}
    model = subjects.build(
        options.shape, options.experts, getattr(torch, options.dtype), options.device, **fewer
    )
    return model, subjects.tokenizer_of(corpus), corpus


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shape", choices=subjects.SHAPES, default="100M")
    parser.add_argument("--experts", action="store_true", help="a mixture of experts")
    parser.add_argument("--layers", type=int, help="fewer layers than the shape has")
    parser.add_argument("--languages", type=int, default=25)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--batch-tokens", type=int, nargs="+", default=[4096])
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=list(KINDS))
    parser.add_argument("--out")
    parser.add_argument("--other", help="folder of another version, to compare the first kind")
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        run_worker(options)
        return
    torch.set_num_threads(options.threads)
    if options.other:
        write_table(options, measure_versions(options), "this version")
        return
    model, tokenizer, corpus = subject_of(options)
    seconds, reports = measure(
        model, tokenizer, corpus, options.kinds, options.rounds, options.batch_tokens,
        options.device,
    )  # fmt: skip
    lines = ["\nOver the bare forward of the same microbatches:\n", "| what | ratio | interval |"]
    lines.append("|---|---|---|")
    for name in reports:
        ratio = [a / b for a, b in zip(seconds[name], seconds[OWN], strict=True)]
        lines.append(f"| {name} | {' | '.join(subjects.ratio_cells(ratio))} |")
    padding = {
        name: f"{report.diagnostics['tokens']['padding']:.1%} ({name})"
        for name, report in reports.items()
        if report.diagnostics
    }
    if padding:
        lines.append(f"\nPadding, of the tokens: {', '.join(padding.values())}.")
    write_table(options, seconds, FLOOR, lines)


def write_table(options, seconds, over, more=()):
    """The seconds and their ratios to those of ``over``, then more lines."""
    title = {FLOOR: "A probe against the bare forward pass"}
    what = f", {options.kinds[0]}" if options.other else ""
    plural = "" if options.layers == 1 else "s"
    layers = "" if options.layers is None else f" with {options.layers} layer{plural}"
    sizes = ", ".join(map(str, options.batch_tokens))
    lines = [
        subjects.heading(title.get(over, "A probe by two versions"), options.device),
        f"{subjects.name_of(options.shape, options.experts)}{layers}, {options.dtype},"
        f" {options.languages} languages x 100 pairs{what}, batch_tokens {sizes},"
        f" {options.rounds} paired rounds. Ratio: median of the rounds, and its 95 % interval.\n",
        "| what | median seconds | ratio | interval |",
        "|---|---|---|---|",
        *subjects.ratio_rows(seconds, over),
        *more,
    ]
    subjects.keep("\n".join(lines), options.out)


if __name__ == "__main__":
    main()
