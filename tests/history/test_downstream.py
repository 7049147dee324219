"""Downstream scores as the tools write them."""

import json

import pytest

from neuronxa_callback.errors import ConfigError
from neuronxa_callback.history.downstream import DownstreamScore, read_scores, split_task


def written(tmp_path, name, text):
    path = tmp_path / name
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.csv", "language,task,score,step,model\nde,xnli,0.5,10,run\nsw,xnli,0.4,10,run\n"),
        (
            "b.tsv",
            "Language\tTask\tScore\tStep\tModel\nde\txnli\t0.5\t10\trun\nsw\txnli\t.4\t10\trun",
        ),
        (
            "c.csv",
            "\ufeffmodel;score;language;step;task\r\nrun;0.5;de;10;xnli\r\nrun;0.4;sw;10;xnli",
        ),
    ],
)
def test_tables_are_read_by_their_header(tmp_path, name, text):
    assert read_scores(written(tmp_path, name, text)).scores == (
        DownstreamScore("de", "xnli", 0.5, 10, "run"),
        DownstreamScore("sw", "xnli", 0.4, 10, "run"),
    )


def test_results_of_lm_evaluation_harness(tmp_path):
    results = {
        "xnli_de": {"alias": "xnli_de", "acc,none": 0.5, "acc_stderr,none": 0.01},
        "xnli_sw": {"alias": "xnli_sw", "acc,none": 0.4, "acc_stderr,none": 0.01},
        "belebele_deu_Latn": {"acc_norm,none": 0.6, "acc,none": 0.7},
        "belebele_swh_Latn": {"acc_norm,none": 0.3, "acc,none": 0.2},
        "arc_easy": {"acc,none": 0.9},
    }
    found = read_scores(written(tmp_path, "results.json", json.dumps({"results": results})))
    assert found.scores == (
        DownstreamScore("de", "xnli_*", 0.5),
        DownstreamScore("sw", "xnli_*", 0.4),
        DownstreamScore("deu_Latn", "belebele_*", 0.7),
        DownstreamScore("swh_Latn", "belebele_*", 0.2),
    )
    assert found.notes[0] == "xnli_*: acc of 2 languages (de, sw)"


def test_results_of_lighteval(tmp_path):
    results = {
        "lighteval|belebele_fra_Latn_cf|0": {"acc_": 0.3, "acc__stderr": 0.1},
        "lighteval|belebele_tha_Thai_cf|0": {"acc_": 0.2, "acc__stderr": 0.1},
        "all": {"acc_": 0.25},
    }
    found = read_scores(written(tmp_path, "results.json", json.dumps({"results": results})))
    assert found.scores == (
        DownstreamScore("fra_Latn", "belebele_*_cf", 0.3),
        DownstreamScore("tha_Thai", "belebele_*_cf", 0.2),
    )


def test_an_export_of_wandb(tmp_path):
    text = (
        '"Step","lr3 - eval/xnli_de","lr3 - eval/xnli_de__MIN","lr3 - eval/xnli_sw","lr3 - loss"\n'
        '"0","0.3","0.3","0.35","2"\n"10","0.4","0.4","","1"\n'
    )
    assert read_scores(written(tmp_path, "wandb.csv", text)).scores == (
        DownstreamScore("de", "eval/xnli_*", 0.3, 0, "lr3"),
        DownstreamScore("sw", "eval/xnli_*", 0.35, 0, "lr3"),
        DownstreamScore("de", "eval/xnli_*", 0.4, 10, "lr3"),
    )


@pytest.mark.parametrize(
    ("name", "language"),
    [
        ("global_mmlu_full_de_anatomy", "de"),
        ("paws_x_fr", "fr"),
        ("include_base_44_german", "german"),
        ("lambada_openai_mt_it", "it"),
        ("xquad:pt-BR", "pt-BR"),
        ("arc_challenge", None),
        ("gsm8k", None),
        ("winogrande", None),
        ("mmlu_law", None),
    ],
)
def test_languages_in_the_names_of_tasks(name, language):
    found = split_task(name)
    assert (found and found[1]) == language


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.csv", "lang,value\nde,1\n", "needs a header with language, task, score"),
        ("a.csv", "", "needs a header with language, task, score"),
        (
            "a.csv",
            "language,score\nde,high\n",
            r"a.csv:2 must hold numbers as score and step, got score 'high'$",
        ),
        ("a.csv", "language,score\nde,1\ndeu,2\n", "one score per language, task, step and model"),
        ("a.csv", "language,score\nxx,1\n", "unknown language: 'xx'"),
        ("a.json", "[1]", "must hold 'results' with one entry per task"),
        ("a.json", "[" * 100_000, "must hold 'results' with one entry per task"),
        ("a.json", '{"results": {"gsm8k": {"acc": 1}}}', "must hold tasks in several languages"),
        ("a.csv", "Step,loss\n1,2\n", "must have columns of a task in several languages"),
        (
            "a.csv",
            "Step,run - xnli_de,run - xnli_sw\n6,,0.4\n,0.3,abc\n",
            r"a.csv:3 must hold numbers as 'Step' and 'run - xnli_de', got '' and '0.3'$",
        ),
        (
            "a.csv",
            "Step,run - xnli_de,run - xnli_sw\n6,0.3,abc\n",
            r"a.csv:2 must hold numbers as 'Step' and 'run - xnli_sw', got '6' and 'abc'$",
        ),
        ("a.csv", "Step,xnli_de,xnli_sw\nx,1,1\n", "a.csv:2 must hold numbers as 'Step' and"),
        ("a.csv", "Step,xnli_de,xnli_sw\ninf,1,1\n", "a.csv:2 must hold numbers as 'Step' and"),
        ("a.csv", "Step,xnli_de,xnli_sw\n\n1,1,1\n\nx,1,1\n", "a.csv:5 must hold numbers as"),
        ("a.csv", "language,score\n\nde,high\n", "a.csv:3 must hold numbers as score and step"),
        ("a.csv", "language,score\nde,0,71\n", r"a.csv:2 .* got '71' behind the last column$"),
        ("a.csv", "language,score\nde,1\nsw,0,7\n", r"a.csv:3 .* got '7' behind the last column$"),
        ("a.csv", "Step,xnli_de,xnli_sw\n1,1,1,9\n", r"a.csv:2 .* got '9' behind the last column$"),
        ("a.csv", f"language,score\nde,{'1' * 140_000}\n", "a.csv:2 must be a row of a table: "),
        ("a.json", '{"results": {"xnli_de": [[1, 2]]}}', "must hold tasks in several languages"),
        (
            "a.json",
            f'{{"results": {{"xnli_de": {{"acc": 1{"0" * 400}}}}}}}',
            "no larger than 1e308, 'acc' of 'xnli_de' is$",
        ),
    ],
)
def test_files_that_hold_no_scores_are_refused(tmp_path, name, text, message):
    with pytest.raises(ConfigError, match=message):
        read_scores(written(tmp_path, name, text))


def test_empty_cells_behind_the_last_column_are_no_cells(tmp_path):
    path = written(tmp_path, "a.csv", "language,score\nde,1,\nsw,0.5,,\n")
    assert [score.score for score in read_scores(path).scores] == [1, 0.5]


def test_a_missing_or_binary_file_is_refused(tmp_path):
    (tmp_path / "b.csv").write_bytes(b"\xff\xfe\x00\x81")
    for path in (tmp_path / "none.csv", tmp_path / "b.csv", tmp_path):
        with pytest.raises(ConfigError, match="must be a readable UTF-8 file"):
            read_scores(path)
