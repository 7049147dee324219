"""Files that are no lines of sentences are refused by name; markers are dropped by name."""

import gzip

import pytest

from neuronxa_callback import ParallelCorpus
from neuronxa_callback.corpus.check import check_path
from tests.helpers.corpus_files import ENGLISH, GERMAN, refusal, write_files, zipped

LFS = "version https://git-lfs.github.com/spec/v1\noid sha256:{}\nsize {}\n"
CUE = "{}\n00:00:0{},000 --> 00:00:0{},500\n{}\n\n"
FORMATS = {
    "a git-lfs pointer": LFS.format("ab" * 32, 123),
    "an HTML page": "<!DOCTYPE html>\n<html><head>\n<title>Log in</title>\n</head></html>\n",
    "subtitles (.srt)": "".join(CUE.format(k, k, k, t) for k, t in enumerate(GERMAN, 1)),
    "subtitles (WebVTT)": "WEBVTT\n\n00:01.000 --> 00:02.000\nGuten Morgen.\n",
    "subtitles": "{1}{72}Guten Morgen.\n{73}{90}Gute Nacht.\n{91}{99}Danke.\n",
    "a gettext catalogue (.po)": "#: a.c:1\n" + 'msgid "Yes"\nmsgstr "Ja"\n\n' * 3,
    "XML or SGML": '<refset>\n<doc docid="1">\n<seg id="1">Ja.</seg>\n</doc>\n</refset>\n',
    "JSON": '{"text": "Ja."}\n{"text": "Nein."}\n{"text": "Gut."}\n',
    "a table of ids and sentences": "".join(f"de-{k:09d}\t{t}\n" for k, t in enumerate(GERMAN)),
    "a table with tabs": "".join(f"{a}\t{b}\n" for a, b in zipped(ENGLISH, GERMAN)),
    "a table with ' ||| '": "".join(f"{a} ||| {b}\n" for a, b in zipped(ENGLISH, GERMAN)),
    "a list of ids and sentences": "".join(f"utt_{k:04d} {t}\n" for k, t in enumerate(GERMAN)),
    "a csv table": "".join(f'"{a}","{b}"\n' for a, b in zipped(ENGLISH, GERMAN)),
    "a table of keys and sentences": "".join(f"a.{k} = {t}\n" for k, t in enumerate(GERMAN)),
    "a git-annex pointer": "/annex/objects/MD5E-s12--ab.txt\n",
    "a bzip2 archive": "BZh91AY&SY\n",
    "a PDF file": "%PDF-1.7\n%\n1 0 obj\n",
    "an RTF file": "{\\rtf1\\ansi Guten Morgen.}\n",
}


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("ending", ["txt", "txt.gz"])
def test_a_file_that_is_no_text_is_refused_by_name(tmp_path, name, ending):
    write_files(tmp_path, eng__txt=ENGLISH)
    data = FORMATS[name].encode()
    path = tmp_path / f"deu.{ending}"
    path.write_bytes(gzip.compress(data) if ending.endswith("gz") else data)
    expected = f"a corpus file must be one sentence per line, but {path} is {name}"
    for extra in ({}, {"n_pairs": 2}):
        assert refusal(ParallelCorpus.from_folder, tmp_path, **extra).startswith(expected)
    assert any(finding.message.startswith(expected) for finding in check_path(tmp_path))


def test_pointers_of_both_languages_are_no_corpus(tmp_path):
    for code, size in (("eng", 5), ("deu", 6)):
        (tmp_path / f"{code}.txt").write_text(LFS.format(f"{size:064d}", size))
        (tmp_path / f"t.{code}").write_text(LFS.format(f"{size:064d}", size))
    for read, path in (
        (ParallelCorpus.from_folder, tmp_path),
        (ParallelCorpus.from_tatoeba, tmp_path / "t"),
        (ParallelCorpus.from_bible, tmp_path),
        (ParallelCorpus.from_tsv, tmp_path / "t.eng"),
        (ParallelCorpus.from_jsonl, tmp_path / "t.eng"),
        (ParallelCorpus.from_parquet, tmp_path / "t.eng"),
    ):
        assert "is a git-lfs pointer; run 'git lfs pull'" in refusal(read, path)


WIDE = ["utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be", "utf-16", "utf-32"]


@pytest.mark.parametrize("encoding", WIDE)
@pytest.mark.parametrize("texts", [GERMAN, ["Это раз.", "Это два.", "Три.", "Спасибо."]])
def test_wide_encodings_are_refused_with_and_without_a_mark(tmp_path, encoding, texts):
    write_files(tmp_path, eng__txt=ENGLISH)
    (tmp_path / "deu.txt").write_bytes("".join(f"{text}\n" for text in texts).encode(encoding))
    message = refusal(ParallelCorpus.from_folder, tmp_path)
    assert encoding[:6].upper() in message
    assert message.endswith("text; convert it to UTF-8")


def test_text_that_only_looks_alike_is_read(tmp_path):
    odd = ["1 Es regnet.", "{Er} geht [nie].", "3. Um 10:15 --> los!", '"Ja", sagt sie.', "a | b"]
    write_files(tmp_path, eng__txt=[*ENGLISH, "Yes."], deu__txt=odd)
    assert [
        text for _, text in ParallelCorpus.from_folder(tmp_path).in_file_order().pairs["deu_Latn"]
    ] == odd


MARKERS = [
    "<range>", "<url>http://a.org/1</url>", "<talkid>12</talkid>", "</doc>", "<seg id='3'>",
    '<tuv xml:lang="de"><seg>Ja.</seg></tuv>', "<!-- none -->", "__NULL__", "[MISSING]", "<unk>",
    "#N/A", "_NULL_", "NaN", "n/a", "None", "NULL", "\\N", "-", "...", "– – –", "???", "<s>",
    "<br/>", "<i> </i>", "&nbsp;", "&lt;range&gt;", "[[range]]", "{empty}",
]  # fmt: skip


@pytest.mark.parametrize("marker", MARKERS)
def test_a_marker_is_dropped_by_name_though_it_is_there_once(tmp_path, marker):
    write_files(tmp_path, eng__txt=[*ENGLISH, "Yes."], deu__txt=[*GERMAN[:1], marker, *GERMAN[1:]])
    corpus = ParallelCorpus.from_folder(tmp_path)
    assert corpus.n_pairs == 4
    assert corpus.dropped == (f"deu.txt:2 is a marker, not a sentence: {marker!r}",)
    (finding,) = [f for f in check_path(tmp_path) if "marker" in f.message]
    assert (finding.language, finding.where) == ("deu_Latn", "deu.txt:2")
    with pytest.raises(ValueError, match="is a marker"):
        ParallelCorpus("eng_Latn", {"deu_Latn": [("a", "b"), ("c", marker)]})


@pytest.mark.parametrize(
    "text", ["<i>Ja.</i>", "<3 dich", "<- hier ->", "a < b > c", "[Musik]", "Nan", "No.", "- Ja."]
)
def test_a_sentence_with_signs_of_markup_is_kept(tmp_path, text):
    write_files(tmp_path, eng__txt=ENGLISH, deu__txt=[text, *GERMAN[1:]])
    assert ParallelCorpus.from_folder(tmp_path).pairs["deu_Latn"][0][1] == text


@pytest.mark.parametrize("hole", ["TODO", "keine Übersetzung", "(leer)"])
@pytest.mark.parametrize("reader", ["folder", "dataset"])
@pytest.mark.parametrize("side", ["en", "de"])
def test_a_cell_beside_many_different_sentences_is_a_marker(tmp_path, hole, reader, side):
    texts = {"en": [f"Line {k}." for k in range(40)], "de": [f"Zeile {k}." for k in range(40)]}
    texts[side] = [hole if k % 4 == 1 else text for k, text in enumerate(texts[side])]
    if reader == "folder":
        write_files(tmp_path, en__txt=texts["en"], de__txt=texts["de"])
        corpus = ParallelCorpus.from_folder(tmp_path)
    else:
        rows = [{"en": a, "de": b} for a, b in zipped(texts["en"], texts["de"])]
        corpus = ParallelCorpus.from_dataset(rows)
    assert corpus.n_pairs == 30
    assert hole not in {text for pair in corpus.pairs["deu_Latn"] for text in pair}
    assert corpus.dropped[0].endswith(f"is a marker, not a sentence: {hole!r} is in many rows")
    code = {"en": "eng_Latn", "de": "deu_Latn"}[side]
    assert f"dropped 10 of the 40 pairs read ({code} 10)" in corpus.notes[-1]


def test_a_sentence_that_repeats_with_its_translation_is_kept_once():
    rows = [{"en": f"Line {k}.", "de": f"Zeile {k}."} for k in range(20)]
    rows = [row for k in range(20) for row in (rows[k], {"en": "Thank you.", "de": "Danke."})]
    corpus = ParallelCorpus.from_dataset(rows)
    assert ("Thank you.", "Danke.") in corpus.pairs["deu_Latn"]
    assert corpus.n_pairs == 21


def test_a_language_that_is_mostly_the_pivot_is_refused(tmp_path):
    texts = [f"Line {k}." for k in range(9)]
    mixed = [*texts[:5], *(f"Zeile {k}." for k in range(4))]
    write_files(tmp_path, eng__txt=texts, deu__txt=mixed)
    assert refusal(ParallelCorpus.from_folder, tmp_path) == (
        "a language must be a translation of the pivot, but 5 of 9 sentences of deu_Latn in"
        f" {tmp_path.name} are equal to it; first: deu.txt:1 'Line 0.'"
    )
    write_files(tmp_path, deu__txt=[*texts[:4], *(f"Zeile {k}." for k in range(5))])
    assert ParallelCorpus.from_folder(tmp_path).n_pairs == 9


TMX = '<tu><tuv xml:lang="en"><seg>{}</seg></tuv><tuv xml:lang="de"><seg>{}</seg></tuv></tu>'
XLIFF = "<trans-unit>\n\t<source>{}</source>\n\t<target>{}</target>\n</trans-unit>"
XML_FILES = {
    "t.tmx": '<?xml version="1.0"?>\n<tmx version="1.4">\n<body>\n{}\n</body></tmx>',
    "t.xlf": '<?xml version="1.0"?>\n<xliff version="1.2">\n\t<file>\n{}\n</file></xliff>',
    "t.xml": "\ufeff<tmx><body>{}</body></tmx>",
    "t.sgm": '<refset setid="a">\n<doc>\n{}\n</doc></refset>',
    "t.txt": "<!DOCTYPE tmx>\n\n<tmx>{}</tmx>",
}


@pytest.mark.parametrize("name", XML_FILES)
@pytest.mark.parametrize("unit", [TMX, XLIFF])
@pytest.mark.parametrize("zipped_too", [False, True])
def test_an_xml_file_itself_is_refused_by_name(tmp_path, name, unit, zipped_too):
    units = "\n".join(unit.format(a, b) for a, b in zipped(ENGLISH, GERMAN))
    data = XML_FILES[name].format(units).encode()
    path = tmp_path / (f"{name}.gz" if zipped_too else name)
    path.write_bytes(gzip.compress(data) if zipped_too else data)
    expected = (
        f"a corpus file must be a table, but {path} is XML or SGML (.tmx, .sgm, .xlf); extract its"
        " sentences"
    )
    assert refusal(ParallelCorpus.read, path) == expected
    assert refusal(ParallelCorpus.from_jsonl, path) == expected


OTHER_TABLES = [
    "subtitles (.srt)", "subtitles", "a gettext catalogue (.po)", "JSON", "a table with ' ||| '",
    "a list of ids and sentences", "a table of keys and sentences",
]  # fmt: skip


@pytest.mark.parametrize("name", OTHER_TABLES)
def test_another_format_that_is_named_itself_is_refused_by_name(tmp_path, name):
    path = tmp_path / "t.txt"
    path.write_text(FORMATS[name])
    message = refusal(ParallelCorpus.read, path)
    assert message.startswith(f"a corpus file must be a table, but {path} is {name}")


HEADLESS = {
    "a sentence per line": ("", ["{1}"]),
    "two columns": ("\t", ["{0}", "{1}"]),
    "ids of tatoeba": ("\t", ["{2}", "{0}", "1{2}", "{1}"]),
    "commas": (",", ["{0}", "{1}"]),
    "three columns": ("\t", ["{0}", "{1}", "by A (1) and B (2)"]),
}


@pytest.mark.parametrize("shape", HEADLESS)
def test_a_table_without_a_header_is_refused_with_what_is_missing(tmp_path, shape):
    delimiter, cells = HEADLESS[shape]
    path = tmp_path / ("t.csv" if delimiter == "," else "t.txt")
    rows = [
        delimiter.join(cells).format(a, b, k) for k, (a, b) in enumerate(zipped(ENGLISH, GERMAN), 7)
    ]
    path.write_text("".join(f"{row}\n" for row in rows))
    first = cells[0].format(ENGLISH[0], GERMAN[0], 7)
    hint = "" if delimiter else ", or name the folder of files of one sentence per line"
    assert refusal(ParallelCorpus.read, path) == (
        "the first line of a table must be a header that names the language of each column, such"
        f" as 'en' and 'de', but {path} begins with {first!r}; add a header{hint}"
    )


@pytest.mark.parametrize("header", [("source", "target"), ("Source text", "Target text"), "ab"])
def test_a_header_without_a_language_is_still_one(tmp_path, header):
    path = tmp_path / "t.tsv"
    rows = [header, *zipped(ENGLISH, GERMAN)]
    path.write_text("".join("\t".join(row) + "\n" for row in rows))
    assert "name them with columns=" in refusal(ParallelCorpus.read, path)
    columns = {"eng_Latn": header[0], "deu_Latn": header[1]}
    assert ParallelCorpus.read(path, columns=columns).n_pairs == 4
