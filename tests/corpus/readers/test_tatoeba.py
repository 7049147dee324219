from neuronxa_callback import ParallelCorpus
from tests.helpers.corpus_files import ENGLISH, FRENCH, GERMAN, PAIRS, refusal, write_files


def test_tatoeba_files_have_a_pivot_side_each(tmp_path):
    write_files(tmp_path, tatoeba__deu__dash__eng__deu=GERMAN, tatoeba__deu__dash__eng__eng=ENGLISH)
    write_files(
        tmp_path, tatoeba__eng__dash__fra__fra=FRENCH[1:], tatoeba__eng__dash__fra__eng=ENGLISH[1:]
    )
    found = ParallelCorpus.from_tatoeba(tmp_path)
    assert found.pairs["deu_Latn"] == PAIRS["deu_Latn"]
    # Three lines have another stride than four: 1, 3, 2.
    assert found.pairs["fra_Latn"] == tuple((ENGLISH[i], FRENCH[i]) for i in (1, 3, 2))
    assert found.order == (
        "deu_Latn: spread over 4 lines, line 1 + 3 k modulo 4,"
        " fra_Latn: spread over 3 lines, line 1 + 2 k modulo 3"
    )
    assert not found.shared_pivot
    assert found.where("fra_Latn", 0) == "tatoeba.eng-fra.fra:1"
    assert ParallelCorpus.from_tatoeba(tmp_path, languages=["fr"], n_pairs=2).n_pairs == 2
    assert refusal(ParallelCorpus.from_tatoeba, tmp_path, n_pairs=4) == (
        f"every language needs 4 usable pairs, {tmp_path.name} has 3 of 3 for fra_Latn; set"
        " n_pairs=3 or leave the language out"
    )


def test_a_tatoeba_pair_is_dropped_in_its_own_language_only(tmp_path):
    write_files(tmp_path, t__deu__dash__eng__deu=[*GERMAN[:3], ""], t__deu__dash__eng__eng=ENGLISH)
    write_files(tmp_path, t__fra__dash__eng__fra=FRENCH, t__fra__dash__eng__eng=ENGLISH)
    write_files(tmp_path, t__deu__dash__eng__deu=[GERMAN[0], "", *GERMAN[2:]])
    found = ParallelCorpus.from_tatoeba(tmp_path)
    assert [len(pairs) for pairs in found.pairs.values()] == [3, 4]
    assert found.dropped == ("t.deu-eng.deu:2 is blank",)


def test_missing_tatoeba_files_are_refused(tmp_path):
    read, folder = ParallelCorpus.from_tatoeba, str(tmp_path)
    assert refusal(read, tmp_path) == (
        f"folder {folder!r} has no pair of files like tatoeba.deu-eng.deu and tatoeba.deu-eng.eng"
        " with the pivot 'eng_Latn'; it contains nothing"
    )
    write_files(tmp_path, tatoeba__deu__dash__eng__deu=GERMAN)
    assert refusal(read, tmp_path) == (
        f"{tmp_path / 'tatoeba.deu-eng.deu'} has no partner tatoeba.deu-eng.eng in the same folder"
    )
    assert refusal(read, tmp_path / "none") == (
        f"there is no folder '{tmp_path / 'none'}' and no file none.<code>"
    )
