"""The claims of the built-in corpus's datasheet, for every file there is."""

import re
import statistics
import unicodedata

import pytest

from neuronxa_callback import ParallelCorpus
from neuronxa_callback.corpus import heuristics, languages, scripts, surface
from neuronxa_callback.corpus.check import check
from neuronxa_callback.corpus.profiles import Profile
from neuronxa_callback.corpus.readers.builtin import BUILTIN, BUILTIN_VERSION, SPLITS
from neuronxa_callback.corpus.text import comparison_key

SHEET = (BUILTIN / "DATASHEET.md").read_text(encoding="utf-8")
LANGUAGES = [
    "arb_Arab",
    "ben_Beng",
    "ces_Latn",
    "deu_Latn",
    "ell_Grek",
    "eng_Latn",
    "fra_Latn",
    "heb_Hebr",
    "hin_Deva",
    "ind_Latn",
    "ita_Latn",
    "jpn_Jpan",
    "kor_Hang",
    "nld_Latn",
    "pes_Arab",
    "pol_Latn",
    "por_Latn",
    "rus_Cyrl",
    "spa_Latn",
    "swh_Latn",
    "tha_Thai",
    "tur_Latn",
    "ukr_Cyrl",
    "urd_Arab",
    "vie_Latn",
    "zho_Hans",
]
FILES = [(split, path.stem) for split in SPLITS for path in sorted((BUILTIN / split).glob("*.txt"))]
TRANSLATIONS = [(split, code) for split, code in FILES if code != "eng_Latn"]

# script -> how a sentence ends; Thai has no mark.
ENDS = {
    "Latn": ".?!", "Cyrl": ".?!", "Grek": ".;!", "Hebr": ".?!", "Hang": ".?!", "Arab": ".؟!",
    "Deva": "।?!", "Beng": "।?!", "Hans": "。？！", "Jpan": "。？！",
}  # fmt: skip
URDU = "۔؟!"
CLOSING = "\"'”’»“)」』"
# Median characters per English character.
RATIOS = {"Hans": (0.15, 0.5), "Jpan": (0.2, 0.7), "Hang": (0.3, 0.75), "Hebr": (0.5, 1.1)}
USUAL_RATIO = (0.6, 1.5)


def lines(split, code):
    return (BUILTIN / split / f"{code}.txt").read_bytes().decode("utf-8").split("\n")[:-1]


def faults(split, code, wrong):
    """``file:line: text`` of each line that is wrong."""
    return [
        f"{split}/{code}.txt:{number}: {text}"
        for number, text in enumerate(lines(split, code), start=1)
        if wrong(text)
    ]


def ratios(split, code):
    both = zip(lines(split, "eng_Latn"), lines(split, code), strict=True)
    return [len(text) / len(english) for english, text in both]


def every(cases):
    return pytest.mark.parametrize(("split", "code"), cases)


def test_the_languages_are_there_in_both_halves():
    for split in SPLITS:
        assert sorted(code for each, code in FILES if each == split) == LANGUAGES
    assert all(languages.resolve(code) == code for code in LANGUAGES)


def test_the_datasheet_names_them():
    assert sorted(re.findall(r"\b[a-z]{3}_[A-Z][a-z]{3}\b(?= \|)", SHEET)) == [
        code for code in LANGUAGES if code != "eng_Latn"
    ]


def test_the_datasheet_holds_the_canary_and_the_version():
    canary = r"CANARY: neuronxa_callback:builtin [0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}"
    assert re.search(rf"^> {canary}$", SHEET, re.MULTILINE)
    title, rest = SHEET.split("\n\n", 1)
    assert title == "# The built-in parallel sentences"
    assert rest.startswith(f"Version {BUILTIN_VERSION}. ")
    assert ParallelCorpus.builtin("test").name == f"builtin:test@{BUILTIN_VERSION}"


@pytest.mark.parametrize("split", SPLITS)
def test_it_loads_whole_and_its_check_finds_nothing(split):
    corpus = ParallelCorpus.builtin(split)
    assert corpus.n_pairs == 100
    assert corpus.shared_pivot
    assert len(corpus.languages) == len([each for each, _ in TRANSLATIONS if each == split])
    assert [str(each) for each in check(corpus)] == []


@every(FILES)
def test_a_file_is_a_hundred_lines_of_clean_text(split, code):
    data = (BUILTIN / split / f"{code}.txt").read_bytes()
    assert data.endswith(b"\n")
    assert not data.endswith(b"\n\n")
    assert b"\r" not in data
    assert not data.startswith(b"\xef\xbb\xbf")
    assert len(lines(split, code)) == 100

    def unclean(text):
        odd = any(unicodedata.category(letter) in ("Cc", "Cn", "Co", "Zl", "Zp") for letter in text)
        spaced = text == text.strip() and "  " not in text and text
        return odd or not spaced or unicodedata.normalize("NFC", text) != text

    assert faults(split, code, unclean) == []


@every(FILES)
def test_letters_are_of_the_languages_script_and_there_is_no_digit(split, code):
    wanted = scripts.expected(languages.script(code), ())
    assert wanted

    def strange(text):
        digits = any(unicodedata.category(letter) in ("Nd", "Nl", "No") for letter in text)
        return digits or scripts.systems(text).keys() - set(wanted)

    assert faults(split, code, strange) == []


@every(FILES)
def test_sentences_end_as_their_script_has_it(split, code):
    ends = URDU if code == "urd_Arab" else ENDS.get(languages.script(code))
    if code == "tha_Thai":
        assert faults(split, code, lambda text: unicodedata.category(text[-1])[0] not in "LM") == []
        return
    assert ends, f"add to ENDS the marks that end a sentence of {code}"
    assert faults(split, code, lambda text: text.rstrip(CLOSING)[-1:] not in ends) == []


@every([each for each in TRANSLATIONS if each[1] not in ("tha_Thai", "jpn_Jpan")])
def test_questions_are_questions(split, code):
    # Thai has no mark for them, and Japanese a particle.
    mark = (URDU if code == "urd_Arab" else ENDS[languages.script(code)])[1]
    english = [text.rstrip(CLOSING).endswith("?") for text in lines(split, "eng_Latn")]
    own = [text.rstrip(CLOSING).endswith(mark) for text in lines(split, code)]
    assert [k + 1 for k in range(100) if english[k] != own[k]] == []


@pytest.mark.parametrize("split", SPLITS)
def test_japanese_questions_end_with_a_particle_and_nothing_else_does(split):
    english = [text.rstrip(CLOSING).endswith("?") for text in lines(split, "eng_Latn")]
    own = [text.rstrip(CLOSING).endswith("か。") for text in lines(split, "jpn_Jpan")]
    assert [k + 1 for k in range(100) if english[k] != own[k]] == []
    assert faults(split, "jpn_Jpan", lambda text: "？" in text) == []


@pytest.mark.parametrize("split", SPLITS)
def test_french_has_a_no_break_space_before_high_marks_and_nowhere_else(split):
    def spaced_otherwise(text):
        return re.search(r"(?<!\u00a0)[?!;:]|\u00a0(?![?!;:])", text)

    assert faults(split, "fra_Latn", spaced_otherwise) == []
    assert any("\u00a0?" in text for text in lines(split, "fra_Latn"))


@pytest.mark.parametrize("split", SPLITS)
def test_spanish_questions_and_exclamations_are_opened(split):
    def unopened(text):
        return ("?" in text) != ("¿" in text) or ("!" in text) != ("¡" in text)

    assert faults(split, "spa_Latn", unopened) == []


@pytest.mark.parametrize("split", SPLITS)
def test_english_has_six_to_twenty_five_words_and_no_names(split):
    def unfit(text):
        named = any(each[0].isupper() and each != "I" for each in scripts.WORD.findall(text)[1:])
        return named or not 6 <= len(text.split()) <= 25

    assert faults(split, "eng_Latn", unfit) == []


@every([each for each in TRANSLATIONS if each[1] == "zho_Hans"])
def test_chinese_is_written_in_simplified_characters(split, code):
    def unencodable(text):
        return any(scripts.system_of(c) == "CJK" and not _in(c, "gb2312") for c in text)

    assert faults(split, code, unencodable) == []


def _in(letter, encoding):
    try:
        letter.encode(encoding)
    except UnicodeEncodeError:
        return False
    return True


@every([each for each in TRANSLATIONS if languages.script(each[1]) == "Arab"])
def test_arabic_letters_are_those_of_the_language(split, code):
    foreign = "کیہھےںٹڈڑ" if code == "arb_Arab" else "كيى"
    assert faults(split, code, lambda text: set(text) & set(foreign)) == []


@every(TRANSLATIONS)
def test_nothing_is_copied_from_english(split, code):
    assert heuristics.copies(Profile(lines(split, "eng_Latn")), Profile(lines(split, code))) == []


@pytest.mark.parametrize("code", sorted({code for _, code in FILES}))
def test_no_sentence_stands_twice_within_or_across_the_halves(code):
    halves = [split for split in SPLITS if (split, code) in FILES]
    both = [text for split in halves for text in lines(split, code)]
    assert len({comparison_key(text).casefold() for text in both}) == 100 * len(halves)
    assert heuristics.near_duplicates(Profile(both)) == []


@every(TRANSLATIONS)
def test_lengths_are_in_proportion(split, code):
    found = ratios(split, code)
    middle = statistics.median(found)
    low, high = RATIOS.get(languages.script(code), USUAL_RATIO)
    assert low < middle < high
    outside = [k + 1 for k, each in enumerate(found) if not middle / 2 < each < middle * 2]
    assert outside == []


def claimed(what):
    """The number in the datasheet's sentence on what length or spelling alone aligns."""
    (number,) = re.findall(rf"(?i){what} alone\s(?:aligns\s)?at most (\d+)\b", SHEET)
    return int(number)


@every(TRANSLATIONS)
def test_length_and_spelling_alone_align_no_more_than_the_datasheet_says(split, code):
    pairs = list(zip(lines(split, "eng_Latn"), lines(split, code), strict=True))
    assert sum(surface.length_hits(pairs)) <= claimed("length") < 10
    assert sum(surface.surface_hits(pairs)) <= claimed("spelling") < 60


def test_dutch_is_spelled_most_like_english():
    found = {
        (split, code): sum(
            surface.surface_hits(
                list(zip(lines(split, "eng_Latn"), lines(split, code), strict=True))
            )
        )
        for split, code in TRANSLATIONS
        if languages.script(code) == "Latn"
    }
    assert max(found, key=found.__getitem__)[1] == "nld_Latn"
