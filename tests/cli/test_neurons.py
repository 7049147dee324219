"""``neuronxa neurons``: the list of language neurons as CSV."""

import csv
import io

from tests.helpers.shell import OPTIONS


def test_the_list_has_a_row_per_neuron_with_its_languages_and_rates(neuronxa, saved, tmp_path):
    code, out, err = neuronxa("neurons", saved, *OPTIONS)
    assert code == 0
    rows = list(csv.DictReader(io.StringIO(out)))
    assert len(rows) == round(0.01 * 3 * 88)
    bar = float(err.partition("above a rate of ")[2].split()[0])
    for row in rows:
        rates = {name[5:]: float(rate) for name, rate in row.items() if name.startswith("rate ")}
        assert set(rates) == {"eng_Latn", "deu_Latn", "fra_Latn"}
        often = [name for name, rate in rates.items() if rate > bar * (1 + 1e-3)]
        assert set(often) <= set(row["languages"].split()) != set()
    file = tmp_path / "lape.csv"
    code, again, _ = neuronxa("neurons", saved, *OPTIONS, "-o", file)
    assert (code, again, file.read_text()) == (0, f"{file}\n", out)


def test_a_threshold_selects_among_the_neurons_above_it(neuronxa, saved):
    code, out, err = neuronxa("neurons", saved, *OPTIONS, "--threshold", "1")
    assert (code, out.count("\n")) == (0, 1)
    assert "0 neurons; a neuron fires often above a rate of 1 " in err
