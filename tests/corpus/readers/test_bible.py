from neuronxa_callback import ParallelCorpus
from neuronxa_callback.corpus.readers import detect
from tests.helpers.corpus_files import ENGLISH, FRENCH, GERMAN, PAIRS, refusal, write_files


def test_verses_are_parallel_by_id_and_missing_ones_are_dropped_everywhere(tmp_path):
    ids = ["01001001", "01001002", "01001003", "01001004"]

    def verses(texts, *leave):
        rows = [f"{verse}\t{text}" for verse, text in zip(ids, texts, strict=True)]
        return ["# language_name: x", *(row for k, row in enumerate(rows) if k not in leave)]

    write_files(tmp_path, eng__dash__x__dash__bible__dash__kjv__txt=verses(ENGLISH))
    write_files(
        tmp_path, deu__dash__x__dash__bible__txt=verses([*GERMAN[:1], "", *GERMAN[2:]])[::-1]
    )
    write_files(tmp_path, fra__txt=verses(FRENCH, 3))
    found = ParallelCorpus.from_bible(tmp_path)
    assert found.pairs == {name: (rows[0], rows[2]) for name, rows in PAIRS.items()}
    assert found.shared_pivot
    assert found.order == "spread over 4 verses, verse 1 + 3 k modulo 4"
    assert found.dropped == (
        "verse 01001004 of fra.txt is missing",
        "verse 01001002 of deu-x-bible.txt is missing",
    )
    assert found.where("fra_Latn", 1) == "fra.txt:4"
    assert ParallelCorpus.from_bible(tmp_path, languages=["de"]).n_pairs == 3
    assert ParallelCorpus.from_bible(tmp_path, languages=["fr"], n_pairs=2).n_pairs == 2
    assert detect.guess(tmp_path) == "bible"
    write_files(tmp_path, fra__txt=["01001001 no tab"])
    assert refusal(ParallelCorpus.from_bible, tmp_path) == (
        f"a verse must be 'id<tab>text', but {tmp_path / 'fra.txt'}:1 has no tab; from_folder reads"
        " Bibles with a verse per line"
    )


def test_verses_are_read_until_enough_are_usable(tmp_path):
    many = [f"{k:08d}\tverse {k}" for k in range(1000)]
    write_files(
        tmp_path,
        eng__txt=many,
        deu__txt=[
            "00000000\tnull",
            *[m[:9] + "x" for m in many[1:400]],
            *(f"{m} x" for m in many[400:]),
        ],
    )
    found = ParallelCorpus.from_bible(tmp_path, n_pairs=300, order="file")
    assert found.pairs["deu_Latn"][:3] == (
        ("verse 0", "null"),
        ("verse 400", "verse 400 x"),
        ("verse 401", "verse 401 x"),
    )
    assert found.n_pairs == ParallelCorpus.from_bible(tmp_path, n_pairs=300).n_pairs == 300
