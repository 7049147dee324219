"""``neuronxa check``."""

import json

from neuronxa_callback import ParallelCorpus


def test_check_finds_no_problem_in_the_built_in_sentences(neuronxa):
    code, out, _ = neuronxa("check", "builtin", "--languages", "de,sw")
    assert code == 0
    assert out == "no problems: 2 languages, 100 pairs each\n"


def write_defective(folder):
    """Built-in sentences with a repeated and an untranslated line."""
    corpus = ParallelCorpus.builtin(languages=["deu_Latn"])
    english, german = map(list, zip(*corpus.pairs["deu_Latn"], strict=True))
    german[4], german[8] = german[3], english[8]
    for code, lines in (("eng_Latn", english), ("deu_Latn", german)):
        (folder / f"{code}.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder


def test_check_names_defects_by_file_and_line(neuronxa, tmp_path):
    code, out, _ = neuronxa("check", write_defective(tmp_path))
    assert code == 1
    assert "error: deu_Latn.txt:5: repeats line 4" in out
    assert "error: deu_Latn.txt:9: is not translated" in out
    code, out, _ = neuronxa("check", tmp_path, "--json")
    result = json.loads(out)
    assert code == 1
    assert result["languages"] == ["deu_Latn"]
    places = {finding["where"] for finding in result["findings"] if finding["level"] == "error"}
    assert places == {"deu_Latn.txt:5", "deu_Latn.txt:9"}


def test_check_prints_which_columns_were_taken_and_which_languages_cost_pairs(neuronxa, tmp_path):
    corpus = ParallelCorpus.builtin(languages=["deu_Latn", "fra_Latn"])
    columns = [list(zip(*corpus.pairs[code], strict=True)) for code in corpus.languages]
    german, french = list(columns[0][1]), list(columns[1][1])
    german[4] = german[3]
    french[6], french[7] = french[2], french[2]
    rows = zip(range(100), columns[0][0], german, french, strict=True)
    table = tmp_path / "t.tsv"
    lines = ["nr\ten\tde\tfr", *("\t".join(map(str, row)) for row in rows)]
    table.write_text("\n".join(lines), encoding="utf-8")
    notes = [
        "took the columns 'en' as eng_Latn, 'de' as deu_Latn, 'fr' as fra_Latn",
        "left out 'nr' (its cells are numbers)",
        "dropped 3 of the 100 pairs read (fra_Latn 2, deu_Latn 1); first: t.tsv:6 (de) repeats",
    ]
    _, out, _ = neuronxa("check", table)
    assert [line for line in out.splitlines() if line.startswith(tuple(notes))][:2] == notes[:2]
    assert notes[2] in out
    _, out, _ = neuronxa("check", table, "--json")
    assert json.loads(out)["notes"][:2] == notes[:2]


def test_check_prints_the_fertility_of_a_tokenizer(neuronxa, saved):
    _, out, _ = neuronxa("check", "builtin", "--languages", "de", "--tokenizer", saved)
    assert "deu_Latn: 1." in out
    assert "times the tokens of the pivot" in out


def test_check_finds_the_sentences_in_training_data(neuronxa, tmp_path):
    sentence = ParallelCorpus.builtin(languages=["deu_Latn"]).pairs["deu_Latn"][5][1]
    seen, unseen = tmp_path / "seen.txt", tmp_path / "unseen.txt"
    seen.write_text(f"Etwas.\nDann: {sentence} Und so weiter.\n", encoding="utf-8")
    unseen.write_text("Etwas anderes.\n" * 50, encoding="utf-8")
    options = ("--languages", "de", "--against")
    code, out, _ = neuronxa("check", "builtin", *options, seen, unseen)
    assert code == 1
    assert f"{seen}:2: contains deu_Latn" in out
    size = seen.stat().st_size + unseen.stat().st_size
    assert f"searched 2 files, 52 lines, {size} bytes: 1 sentences in training data" in out
    code, out, _ = neuronxa("check", "builtin", *options, unseen)
    assert code == 0
    size = unseen.stat().st_size
    assert out.endswith(f"searched 1 files, 50 lines, {size} bytes: 0 sentences in training data\n")
    (tmp_path / "none").mkdir()
    (tmp_path / "empty.txt").touch()
    for path in (tmp_path / "none", tmp_path / "empty.txt"):
        code, out, err = neuronxa("check", "builtin", *options, path)
        assert (code, out) == (2, "")
        assert str(path) in err
    code, out, err = neuronxa("check", "builtin", *options, tmp_path / "empty.txt", unseen)
    assert code == 0
    assert (
        err == f"warning: {tmp_path / 'empty.txt'} holds no text, so nothing in it was searched\n"
    )


def test_check_refuses_a_missing_corpus_in_one_sentence(neuronxa, tmp_path):
    code, _, err = neuronxa("check", tmp_path / "none")
    assert code == 2
    assert err == (
        f"neuronxa: a corpus must be 'builtin', a folder or a file, got '{tmp_path / 'none'}'\n"
    )
