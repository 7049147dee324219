"""A callback whose reports follow a script, and a clock that moves only when told to."""

from dataclasses import replace

from transformers import TrainerCallback

from neuronxa_callback import NeuronXACallback, Probe


class ScriptedCallback(NeuronXACallback):
    """Measures as usual, then hands every report to ``script(report)``, which returns another."""

    def __init__(self, config, script, **options):
        super().__init__(config, **options)
        self.script = script

    def make_probe(self, tokenizer):
        return ScriptedProbe(self.config, tokenizer, self.script)


class ScriptedProbe(Probe):
    def __init__(self, config, tokenizer, script):
        super().__init__(config, tokenizer)
        self.script = script

    def run(self, *args, **kwargs):
        return self.script(super().run(*args, **kwargs))


def with_score(report, score):
    """The report with one score for every metric, layer and language, or with one per language."""
    by_language = score if isinstance(score, dict) else dict.fromkeys(report.languages, score)
    hits = {name: (1 << round(one * report.n_pairs)) - 1 for name, one in by_language.items()}
    metrics = {
        name: replace(
            scores,
            hits={language: (mask,) * len(scores.layers) for language, mask in hits.items()},
        )
        for name, scores in report.metrics.items()
    }
    return replace(report, metrics=metrics)


class PlannedError(RuntimeError):
    """A failure that a test has planned."""


def failing_at(*steps):
    """A script that fails at some steps."""

    def script(report):
        if report.step in steps:
            raise PlannedError("planned")
        return report

    return script


class SteadyClock(TrainerCallback):
    """A clock in which every training step takes ``step`` seconds, an evaluation one second."""

    def __init__(self, step=0.01):
        self.now, self.step = 0.0, step

    def __call__(self):
        return self.now

    def on_step_begin(self, args, state, control, **kwargs):
        self.now += self.step

    def on_evaluate(self, args, state, control, **kwargs):
        self.now += 1


def timed(config, step, probe, **options):
    """A clock and a callback by which a step and a probe take given seconds."""
    clock = SteadyClock(step)
    callback = ScriptedCallback(config, lambda report: report.with_run(seconds=probe), **options)
    callback.schedule.clock = clock
    return [clock, callback]
