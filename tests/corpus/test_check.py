import pytest

from neuronxa_callback import ParallelCorpus
from neuronxa_callback.corpus.check import ADVICE, ERROR, Finding, check, check_path, fertility
from tests.helpers.corpus_files import to_folder

LETTERS = "abcdefghijklmnopqrstuvwxyz"
CYRILLIC = "абвгдежзийклмнопрстуфхцчшщыэюя"


def word(k, letters):
    """Words that look like nothing else: the digits of a scrambled number."""
    k = (k + 1) * 2654435761 % (1 << 32)
    base = len(letters)
    return "".join(letters[(k // base**i) % base] for i in range(5))


def sentence(k, letters, salt=0):
    words = [word(97 * k + 13 * i + 100_003 * salt, letters) for i in range(6 + k % 3)]
    return " ".join(words).capitalize() + "."


ENGLISH = [sentence(k, LETTERS) for k in range(100)]
GERMAN = [sentence(k, LETTERS, 1) for k in range(100)]
RUSSIAN = [sentence(k, CYRILLIC, 2) for k in range(100)]


def write(folder, **changes):
    """A clean folder, and lines of it (from 1) replaced: ``deu={3: "..."}``."""
    for code, lines in (("eng", ENGLISH), ("deu", GERMAN), ("rus", RUSSIAN)):
        lines = list(lines)
        for number, text in changes.get(code, {}).items():
            lines[number - 1] = text
        (folder / f"{code}.txt").write_bytes("".join(f"{line}\n" for line in lines).encode())
    return folder


class Words:
    """A tokenizer of words; every letter of Cyrillic words is a token, ``xxxxx`` is unknown."""

    unk_token_id = 0

    def __call__(self, texts):
        return {"input_ids": [self.ids(text) for text in texts]}

    def ids(self, text):
        return [
            0 if each.startswith("xxxxx") else 1
            for each in text.split()
            for _ in (each if ord(each[0]) > 999 else "_")
        ]


def test_clean_files_give_no_finding(tmp_path):
    assert check_path(write(tmp_path)) == ()
    assert check(ParallelCorpus.from_folder(tmp_path)) == ()


def test_clean_files_give_no_finding_whatever_ends_their_lines(tmp_path):
    for path in write(tmp_path).iterdir():
        path.write_bytes(path.read_bytes().replace(b"\n", b"\r\n").removesuffix(b"\r\n"))
    assert check_path(tmp_path) == ()


G = GERMAN
PLANTED = [
    ("deu", {5: " "}, ERROR, "deu.txt:5", "is blank"),
    ("eng", {5: "\u200b"}, ERROR, "eng.txt:5", "is blank"),
    ("deu", {9: f"{G[2]} "}, ERROR, "deu.txt:9", f"repeats line 3: {G[2] + ' '!r}"),
    ("eng", {9: ENGLISH[2]}, ERROR, "eng.txt:9", f"repeats line 3: {ENGLISH[2]!r}"),
    ("deu", {7: ENGLISH[6]}, ERROR, "deu.txt:7", f"is not translated: {ENGLISH[6]!r}"),
    ("deu", {7: ENGLISH[6].upper()}, ERROR, "deu.txt:7", "is not translated: "),
    ("deu", {8: f"{ENGLISH[7][:-1]} so."}, ADVICE, "deu.txt:8",
     f"looks almost untranslated: {ENGLISH[7][:-1] + ' so.'!r}"),
    ("deu", {4: f"{G[10][:-2]}q."}, ADVICE, "deu.txt:11",
     f"almost repeats deu.txt:4 (character cosine 0.93): {G[10]!r}"),
    ("rus", {6: G[5]}, ERROR, "rus.txt:6", "40 of 40 letters are Latin, expected Cyrillic"),
    ("eng", {6: RUSSIAN[5]}, ERROR, "eng.txt:6", "40 of 40 letters are Cyrillic, expected Latin"),
    ("rus", {6: RUSSIAN[5][:18] + G[5][18:]}, ADVICE, "rus.txt:6", "of"),
    ("deu", {6: G[5].replace("a", "а")}, ADVICE, "deu.txt:6", "the word"),
    ("deu", {12: G[11][:11]}, ADVICE, "deu.txt:12", "11 characters for"),
    ("deu", {12: " ".join(G[11:15])}, ADVICE, "deu.txt:12", ""),
    ("deu", {13: f"{G[12][:9]}\x07{G[12][9:]}"}, ERROR, "deu.txt:13",
     "contains the control character U+0007"),
    ("deu", {13: f"{G[12][:9]}\ufeff{G[12][9:]}"}, ERROR, "deu.txt:13",
     "contains a byte order mark"),
    ("eng", {13: f"{G[12][:9]}\ufffd"}, ERROR, "eng.txt:13",
     "contains a replacement character (lost text)"),
    ("deu", {1: f"\ufeff{G[0]}"}, ADVICE, "deu.txt:1", "begins with a byte order mark"),
]  # fmt: skip


@pytest.mark.parametrize(("code", "lines", "level", "where", "message"), PLANTED)
def test_every_planted_defect_is_found_by_line(tmp_path, code, lines, level, where, message):
    found = check_path(write(tmp_path, **{code: lines}))
    mine = [each for each in found if each.where == where and message in each.message]
    assert [each.level for each in mine] == [level], found
    assert mine[0].language == {"deu": "deu_Latn", "eng": "eng_Latn", "rus": "rus_Cyrl"}[code]


def test_a_defect_is_found_once_and_alone(tmp_path):
    found = check_path(write(tmp_path, deu={40: "", 50: G[1]}, rus={40: " "}))
    assert found == (
        Finding(ERROR, "deu_Latn", "deu.txt:40", "is blank"),
        Finding(ERROR, "deu_Latn", "deu.txt:50", f"repeats line 2: {G[1]!r}"),
        Finding(ERROR, "rus_Cyrl", "rus.txt:40", "is blank"),
        Finding(
            ADVICE,
            "deu_Latn",
            "",
            "98 pairs: a score may be off by ±0.10 (100 pairs: ±0.10); use at least 100",
        ),
        Finding(
            ADVICE,
            "rus_Cyrl",
            "",
            "98 pairs: a score may be off by ±0.10 (100 pairs: ±0.10); use at least 100",
        ),
    )
    assert str(found[0]) == "error: deu.txt:40: is blank"


def test_invalid_utf8_is_found_by_line(tmp_path):
    path = write(tmp_path) / "deu.txt"
    lines = path.read_bytes().split(b"\n")
    lines[16] = lines[87] = b"\xe4"
    path.write_bytes(b"\n".join(lines))
    found = check_path(tmp_path)
    words = "is not UTF-8: byte 0xe4 at position 0"
    assert found[:2] == tuple(
        Finding(ERROR, "deu_Latn", f"deu.txt:{number}", words) for number in (17, 88)
    )
    assert [each.where for each in found[2:]] == [str(tmp_path)]


def test_files_that_cannot_be_read_are_one_finding(tmp_path):
    with (write(tmp_path) / "deu.txt").open("a") as file:
        file.write("more\n")
    assert [str(each) for each in check_path(tmp_path)] == [
        f"error: {tmp_path}: files of one corpus must have the same number of lines, but"
        f" {tmp_path / 'deu.txt'} has 101 and {tmp_path / 'eng.txt'} has 100"
    ]


def test_defects_of_tables_are_found_by_line(tmp_path):
    path = tmp_path / "t.tsv"
    rows = [f"{a}\t{b}\n" for a, b in zip(ENGLISH, GERMAN, strict=True)]
    path.write_text("".join(["en\tde\n", *rows]))
    assert check_path(path) == ()
    path.write_text("".join(["en\tde\n", *rows, "x\t\n", f"y\t{G[0]}\n"]))
    assert check_path(path) == (
        Finding(ERROR, "", "t.tsv:102 (de)", "is blank"),
        Finding(ERROR, "", "t.tsv:103 (de)", f"repeats t.tsv:2 (de): {G[0]!r}"),
    )


def test_several_pivot_sides_are_checked_each(tmp_path):
    other = [sentence(k, LETTERS, 5) for k in range(100)]
    other[20] = RUSSIAN[20]
    corpus = ParallelCorpus(
        "eng_Latn",
        {
            "deu_Latn": tuple(zip(ENGLISH, GERMAN, strict=True)),
            "rus_Cyrl": tuple(zip(other, RUSSIAN, strict=True)),
        },
    )
    to_folder(corpus, tmp_path)
    name = "pairs.rus_Cyrl-eng_Latn"
    assert [(each.level, each.language, each.where) for each in check_path(tmp_path)] == [
        (ERROR, "eng_Latn", f"{name}.eng_Latn:21"),
        (ERROR, "rus_Cyrl", f"{name}.rus_Cyrl:21"),
    ]


@pytest.mark.parametrize(
    ("n", "level", "width", "least"),
    [(29, ERROR, "0.18", 30), (30, ADVICE, "0.18", 100), (50, ADVICE, "0.14", 100)],
)
def test_few_pairs_cost_precision(n, level, width, least):
    corpus = ParallelCorpus.from_dataset(
        [{"en": a, "de": b} for a, b in zip(ENGLISH[:n], GERMAN[:n], strict=True)]
    )
    words = f"{n} pairs: a score may be off by ±{width} (100 pairs: ±0.10); use at least {least}"
    assert check(corpus) == (Finding(level, "deu_Latn", "", words),)


def with_word(texts, what, count=11):
    """The first lines with a word before the last mark; ``{}`` in it is the line's number."""
    return {k: f"{texts[k - 1][:-1]} {what.format(k)}." for k in range(1, count + 1)}


LEAKS = [
    # Either side counts, in any script's digits.
    ({"eng": "n{}", "rus": "{}"},
     ["deu_Latn: 11 of 100 pairs have digits (0 share a number)",
      "rus_Cyrl: 11 of 100 pairs have digits (11 share a number)"]),
    ({"rus": "\u0663"}, ["rus_Cyrl: 11 of 100 pairs have digits (0 share a number)"]),
    ({"rus": "Базель"},
     ["rus_Cyrl: 11 of 100 pairs have capitalized words that may be names (0 share one)"]),
    ({"eng": "Basel", "deu": "Basel"},
     ["deu_Latn: 11 of 100 pairs have capitalized words that may be names (11 share one)",
      "rus_Cyrl: 11 of 100 pairs have capitalized words that may be names (0 share one)"]),
    # Every German noun has a capital, and so has every sentence.
    ({"deu": "Haus"}, []),
    ({"eng": "so. Then", "rus": "так? «Потом"}, []),
    ({"eng": "X"}, []),
]  # fmt: skip


@pytest.mark.parametrize(("words", "said"), LEAKS)
def test_digits_and_likely_names_are_advice_per_language(tmp_path, words, said):
    texts = {"eng": ENGLISH, "deu": GERMAN, "rus": RUSSIAN}
    found = check_path(
        write(tmp_path, **{code: with_word(texts[code], each) for code, each in words.items()})
    )
    assert [str(each) for each in found] == [
        f"advice: {each}, which may align them without their meaning; first: {each[:3]}.txt:1"
        for each in said
    ]


@pytest.mark.parametrize("word", ["7", "Basel"])
def test_a_tenth_of_the_pairs_may_have_them(tmp_path, word):
    assert check_path(write(tmp_path, eng=with_word(ENGLISH, word, 10))) == ()


def test_long_sentences_and_unknown_tokens_are_found(tmp_path):
    long = " ".join(["xxxxx", *[word(k, LETTERS) for k in range(8)]])
    corpus = ParallelCorpus.from_folder(write(tmp_path, deu={30: long}))
    found = [str(each) for each in check(corpus, Words(), max_length=8)]
    assert found[0] == "error: deu.txt:30: has 9 tokens, allowed 8; the pair will be dropped"
    assert [each for each in found if each.startswith("advice")] == [
        "advice: rus_Cyrl: has 5.1 times the tokens of eng_Latn"
    ]
    assert fertility(corpus, "deu_Latn", Words()) == pytest.approx(1 + 1 / 699, abs=0.01)
    strange = {k: "xxxxx " + " ".join(GERMAN[k - 1].split()[1:]) for k in range(1, 60)}
    corpus = ParallelCorpus.from_folder(write(tmp_path, deu=strange))
    assert [str(each) for each in check(corpus.select(["de"]), Words())] == [
        "advice: deu_Latn: 8% of the tokens are unknown"
    ]


def test_near_duplicates_are_those_of_the_definition():
    from collections import Counter

    from neuronxa_callback.corpus.heuristics import NEAR, near_duplicates
    from neuronxa_callback.corpus.profiles import Profile

    texts = [f"{a[:-3]}{b}" for a in ENGLISH[:6] for b in ("ab.", "xy.", "the end of it.")]

    def grams(text):
        text = f" {text.casefold()} "
        return Counter(text[k : k + 3] for k in range(len(text) - 2))

    def cosine(a, b):
        a, b = grams(a), grams(b)
        norms = [sum(count**2 for count in each.values()) for each in (a, b)]
        return sum(a[gram] * b[gram] for gram in a) / (norms[0] * norms[1]) ** 0.5

    wanted = {
        (i, j): cosine(texts[i], texts[j])
        for j in range(len(texts))
        for i in range(j)
        if cosine(texts[i], texts[j]) >= NEAR
    }
    found = {(i, j): value for i, j, value in near_duplicates(Profile(texts))}
    assert found == pytest.approx(wanted)
    assert len(found) >= 4
