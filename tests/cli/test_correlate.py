"""``neuronxa correlate``, and ``history.correlate`` behind it."""

import csv
import io
import json
from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from tests.helpers.reports import make_report

CODES = ("deu_Latn", "fra_Latn", "spa_Latn", "hin_Deva", "swh_Latn", "jpn_Jpan", "rus_Cyrl",
         "tur_Latn", "vie_Latn", "zho_Hans")  # fmt: skip
STEPS = range(0, 100, 10)


def reports(seed=0):
    rng = np.random.default_rng(seed)
    levels = rng.uniform(0.2, 0.8, len(CODES))
    surface = {code: {"characters": float(rng.uniform(0, 0.6)), "length": 0.1} for code in CODES}
    tokens = {
        code: {"pivot": {"per_sentence": 10}, "target": {"per_sentence": 10 + k}}
        for k, code in enumerate(CODES)
    }
    for step in STEPS:
        levels = np.clip(levels + rng.normal(0, 0.05, len(CODES)), 0.02, 0.98)
        diagnostics = {"surface": surface, "tokens": {"languages": tokens}}
        yield make_report(step, dict(zip(CODES, levels, strict=True)), diagnostics=diagnostics)


@pytest.fixture
def record(tmp_path):
    path = tmp_path / "run.jsonl"
    path.write_text("".join(f"{report.to_json()}\n" for report in reports()), encoding="utf-8")
    return path


def write_scores(path, rows, header="language,task,score,step"):
    path.write_text("\n".join([header, *rows]), encoding="utf-8")
    return path


def downstream(report, noise=0.02, seed=1):
    rng = np.random.default_rng([seed, report.step])
    return {code: 0.25 + report.score("nasca", code) / 2 + rng.normal(0, noise) for code in CODES}


@pytest.fixture
def scores(tmp_path):
    rows = [
        f"{code[:3]},belebele,{score},{report.step}"
        for report in reports()
        for code, score in downstream(report).items()
    ]
    return write_scores(tmp_path / "scores.csv", [*rows, "en,belebele,0.9,90"])


def test_the_last_report_meets_the_scores_of_its_step(neuronxa, record, scores):
    code, out, _ = neuronxa("correlate", record, scores, "--json")
    found = json.loads(out)
    last = list(reports())[-1]
    x = [last.score("nasca", language) for language in CODES]
    y = list(downstream(last).values())
    first = found["over_languages"][0]
    assert code == 0
    assert (first["metric"], first["task"], first["step"]) == ("nasca", "belebele", 90)
    assert first["pearson"]["r"] == pytest.approx(stats.pearsonr(x, y).statistic)
    assert first["spearman"]["r"] == pytest.approx(stats.spearmanr(x, y).statistic)
    assert set(first["partial"]) == {"fertility", "surface", "script", "all"}
    assert "belebele: en is left out, the report does not have it" in found["notes"]
    along = found["over_steps"][0]
    assert along["steps"] == list(STEPS)
    assert along["changes"]["together"] > 0.6


def test_the_tables_fit_80_columns_and_the_plot_is_written(neuronxa, record, scores, tmp_path):
    code, out, _ = neuronxa("correlate", record, scores, "--plot", tmp_path / "plot.png")
    assert code == 0
    assert "…" not in out
    for words in ("Pearson given fertility", "without one language", "Changes from step to step"):
        assert words in out
    assert (tmp_path / "plot.png").read_bytes().startswith(b"\x89PNG")


def test_csv_has_a_row_per_correlation(neuronxa, record, scores):
    _, out, _ = neuronxa("correlate", record, scores, "--csv", "--metrics", "navca")
    rows = list(csv.DictReader(io.StringIO(out)))
    assert [row["statistic"] for row in rows[:3]] == ["pearson", "spearman", "partial_fertility"]
    assert {row["metric"] for row in rows} == {"navca"}


def test_several_models_have_one_correlation_each_and_their_mean(neuronxa, record, tmp_path):
    paths = [record]
    rows = []
    for seed in (1, 2):
        path = tmp_path / f"run{seed}.jsonl"
        path.write_text("".join(f"{r.to_json()}\n" for r in reports(seed)), encoding="utf-8")
        paths.append(path)
    for seed, path in enumerate(paths):
        last = list(reports(seed))[-1]
        rows += [f"{c},x,{s},{path.name}" for c, s in downstream(last, 0.1).items()]
    file = write_scores(tmp_path / "models.csv", rows, "language,task,score,model")
    _, out, _ = neuronxa("correlate", *paths, file, "--json", "--metrics", "nasca")
    found = json.loads(out)
    each = [entry["pearson"]["r"] for entry in found["over_languages"]]
    assert len(each) == 3
    mean = found["over_models"][0]
    assert mean["mean"] == pytest.approx(np.tanh(np.mean(np.arctanh(each))))
    assert mean["low"] < mean["mean"] < mean["high"]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([f"{c},x,0.{k},90" for k, c in enumerate(CODES[:7])], "at least 8 languages"),
        ([f"{c},x,0.5,90" for c in CODES], "needs scores that vary over languages, all are 0.5"),
        ([f"{c},x,0.{k},90" for k, c in enumerate((*CODES, "deu"))], "one score per language"),
        ([f"{c},x,0.{k},90" for k, c in enumerate((*CODES, "Germann"))], "did you mean"),
    ],
)
def test_scores_that_cannot_be_correlated_are_refused(neuronxa, record, tmp_path, rows, message):
    code, out, err = neuronxa("correlate", record, write_scores(tmp_path / "bad.csv", rows))
    assert (code, out) == (2, "")
    assert err.count("\n") == 1
    assert message in err


def test_unknown_tasks_models_metrics_and_plots_are_named(neuronxa, record, scores, tmp_path):
    assert "known: belebele" in neuronxa("correlate", record, scores, "--task", "xnli")[2]
    rows = [f"{code},x,0.{k},other" for k, code in enumerate(CODES)]
    models = write_scores(tmp_path / "m.csv", rows, "language,task,score,model")
    assert "must be runs among run.jsonl, got: other" in neuronxa("correlate", record, models)[2]
    assert "unknown metric: 'nsca'" in neuronxa("correlate", record, scores, "--metrics", "nsca")[2]
    code, _, err = neuronxa("correlate", record, scores, "--plot", tmp_path / "plot.xyz")
    assert code == 2
    assert "--plot must end in .png, .svg or .pdf" in err


def test_groups_with_enough_languages_have_correlations_of_their_own(neuronxa, tmp_path, scores):
    groups = {"most": CODES[1:], "few": CODES[:3]}
    path = tmp_path / "groups.jsonl"
    lines = [replace(report, groups=groups) for report in reports()]
    for report in lines:
        means = {f"group:{name}": (0.1, 0.9) for name in groups}
        for metric in report.metrics.values():
            metric.intervals.update(means)
    path.write_text("".join(f"{report.to_json()}\n" for report in lines), encoding="utf-8")
    code, out, _ = neuronxa("correlate", path, scores, "--json")
    assert code == 0
    found = json.loads(out)
    assert [*found["in_groups"]] == ["most"]
    nasca = found["in_groups"]["most"][0]
    assert nasca["languages"] == list(CODES[1:])
    expected = stats.pearsonr(nasca["alignment"], nasca["downstream"]).statistic
    assert nasca["pearson"]["r"] == pytest.approx(expected)
    assert any("the group few has no correlation of its own" in note for note in found["notes"])
    assert "in the group most:" in neuronxa("correlate", path, scores)[1]
