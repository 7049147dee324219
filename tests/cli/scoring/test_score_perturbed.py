"""``neuronxa score --perturb``."""

from neuronxa_callback import AlignmentReport
from tests.helpers.shell import OPTIONS


def test_the_report_has_the_costs_and_they_are_printed(neuronxa, saved):
    options = (*OPTIONS, "--perturb", "case,typos")
    code, out, err = neuronxa("score", saved, *options, "--json")
    assert code == 0
    found = AlignmentReport.from_json(out).diagnostics["perturbed"]
    assert [*found] == ["case", "typos"]
    assert [*found["case"]["nasca"]] == ["deu_Latn", "fra_Latn", "mean"]
    assert err.splitlines()[0].startswith("neuronxa: --perturb case: 2 languages, ")
    code, out, _ = neuronxa("score", saved, *options)
    words = " ".join(out.split())
    assert code == 0
    assert "nasca with case perturbed" in words
    assert "nasca with typos perturbed" in words
    entry = found["case"]["nasca"]["deu_Latn"]
    row = next(
        line.split() for line in out[out.index("perturbed") :].splitlines() if "deu_Latn" in line
    )
    assert row[1:4] == [
        f"{entry['clean']:.3f}", f"{entry['perturbed']:.3f}", f"{entry['difference']:+.3f}",
    ]  # fmt: skip


def test_an_unknown_perturbation_is_one_sentence(neuronxa, saved):
    code, out, err = neuronxa("score", saved, *OPTIONS, "--perturb", "cases")
    assert (code, out) == (2, "")
    assert err == (
        "neuronxa: unknown perturbation: 'cases'; did you mean 'case'? (known: case, punctuation,"
        " typos)\n"
    )
