import json
import subprocess
import sys

import pytest

from neuronxa_callback import ParallelCorpus
from neuronxa_callback.corpus.readers.lines import read_lines
from tests.helpers.corpus_files import ENGLISH, GERMAN, refusal, write_files


def test_byte_order_marks_and_line_endings_are_not_text(tmp_path):
    path = (
        write_files(tmp_path, a__txt=["\ufeffen\tde", "a\tb", "c\td"], end="\r\n", last=False)
        / "a.txt"
    )
    assert read_lines(path) == ["en\tde", "a\tb", "c\td"]
    assert ParallelCorpus.from_tsv(path).pairs["deu_Latn"] == (("a", "b"), ("c", "d"))
    rows = ['\ufeff{"en": "a", "de": "b"}', '{"en": "c", "de": "d"}']
    path = write_files(tmp_path, a__jsonl=rows, end="\r\n") / "a.jsonl"
    assert ParallelCorpus.from_jsonl(path).pairs["deu_Latn"] == (("a", "b"), ("c", "d"))


def test_unicode_line_separators_do_not_end_a_line(tmp_path):
    odd = ["a\u2028b", "c\x85d", "e\x0bf", "g\x1ch"]
    folder = write_files(tmp_path, eng__txt=ENGLISH, deu__txt=odd)
    found = ParallelCorpus.from_folder(folder).in_file_order()
    assert [text for _, text in found.pairs["deu_Latn"]] == odd


def test_invalid_utf8_is_refused_by_line(tmp_path):
    write_files(tmp_path, eng__txt=ENGLISH, deu__txt=GERMAN)
    (tmp_path / "deu.txt").write_bytes("eins\nzwei\nfünf\nvier\n".encode("latin-1"))
    assert refusal(ParallelCorpus.from_folder, tmp_path) == (
        f"a corpus must be UTF-8 text, but {tmp_path / 'deu.txt'}:3 has the invalid byte"
        " 0xfc at position 1; convert the file first"
    )


def test_a_broken_archive_is_refused(tmp_path):
    write_files(tmp_path, eng__txt=ENGLISH)
    (tmp_path / "deu.txt.gz").write_bytes(b"no archive")
    message = refusal(ParallelCorpus.from_folder, tmp_path)
    assert message.startswith(f"cannot read {tmp_path / 'deu.txt.gz'}: ")


@pytest.mark.parametrize("kind", ["folder", "tsv", "jsonl"])
def test_a_huge_file_is_read_no_further_than_needed(tmp_path, kind):
    """In file order. Sparse files of 5 GB: real lines first, then nothing but zeros."""
    if kind == "folder":
        write_files(tmp_path, eng__txt=[f"line {k}" for k in range(2000)])
        write_files(tmp_path, deu__txt=[f"Zeile {k}" for k in range(2000)])
        files = [tmp_path / "eng.txt", tmp_path / "deu.txt"]
    else:
        files = [tmp_path / f"table.{kind}"]
        rows = [(f"line {k}", f"Zeile {k}") for k in range(2000)]
        lines = [json.dumps({"eng": a, "deu": b}) for a, b in rows]
        if kind == "tsv":
            lines = ["eng\tdeu", *("\t".join(row) for row in rows)]
        files[0].write_text("\n".join(lines) + "\n")
    for file in files:
        with file.open("r+b") as opened:
            opened.truncate(5 << 30)
    code = (
        "import resource; resource.setrlimit(resource.RLIMIT_AS, (1 << 30, 1 << 30))\n"
        "from neuronxa_callback import ParallelCorpus\n"
        f"found = ParallelCorpus.from_{kind}({str(tmp_path if kind == 'folder' else files[0])!r},"
        " n_pairs=1000, order='file'); print(found.n_pairs)"
    )
    found = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=60
    )
    assert found.stdout == "1000\n", found.stderr
