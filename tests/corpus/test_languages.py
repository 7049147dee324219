import pytest
from hypothesis import given
from hypothesis import strategies as st

from neuronxa_callback.corpus.languages import capital_nouns, code_of_name, name, resolve, script
from neuronxa_callback.errors import CorpusError

KNOWN = (
    "deu_Latn", "zho_Hans", "zho_Hant", "arb_Arab", "arb_Latn", "ary_Arab", "swh_Latn", "aai_Latn",
    "xyz", "srp_Latn", "nno_Latn", "pes_Arab", "cat_Latn", "cat_Latn_vale", "kmr_Cyrl", "kmr_Arab",
)  # fmt: skip
FORMS = {
    "deu_Latn": ["de", "deu", "ger", "deu_Latn", "de-DE", "German", "german", "Deutsch", " de "],
    "zho_Hans": ["zh", "zh-Hans", "cmn", "zho", "chi", "cmn_Hans", "Chinese", "Mandarin", "zh-CN"],
    "zho_Hant": ["zh-Hant", "zh-TW", "zh_HK", "Traditional Chinese"],
    "arb_Arab": ["ar", "ara", "arb", "Arabic"],
    "pes_Arab": ["fa", "per", "fas", "Persian", "Farsi"],
    "prs_Arab": ["prs", "Dari"],
    "swh_Latn": ["sw", "swa", "swh", "Swahili"],
    "heb_Hebr": ["he", "iw", "Hebrew"],
    "ind_Latn": ["id", "in", "Indonesian"],
    "jpn_Jpan": ["ja", "jpn", "Japanese"],
    "kor_Hang": ["ko", "kor", "Korean"],
    "nob_Latn": ["no", "nb", "Norwegian"],
    "srp_Cyrl": ["sr", "Serbian"],
    "srp_Latn": ["sr-Latn", "sh"],
    "por_Latn": ["pt", "pt-BR", "Brazilian Portuguese"],
    "tgl_Latn": ["tl", "fil", "Tagalog"],
    "hin_Deva": ["hi", "Hindi"],
    "ben_Beng": ["bn", "Bengali"],
    "urd_Arab": ["ur", "Urdu"],
    "tha_Thai": ["th", "Thai"],
    "vie_Latn": ["vi", "Vietnamese"],
    "ell_Grek": ["el", "gre", "Greek"],
}


@pytest.mark.parametrize(("code", "form"), [(c, f) for c, forms in FORMS.items() for f in forms])
def test_usual_forms_mean_one_code(code, form):
    assert resolve(form) == code
    assert resolve(form, [code, "fra_Latn", "xxx_Cyrl"]) == code
    assert resolve(code) == code


@pytest.mark.parametrize(
    ("form", "code"),
    [
        ("zh", "zho_Hans"), ("zh-TW", "zho_Hant"), ("Arabic", "arb_Arab"), ("xyz", "xyz"),
        ("aai", "aai_Latn"), ("ca", "cat_Latn"), ("cat_Latn_vale", "cat_Latn_vale"),
        ("sr", "srp_Latn"), ("fa", "pes_Arab"),
    ],
)  # fmt: skip
def test_a_form_is_matched_with_the_codes_there_are(form, code):
    assert resolve(form, KNOWN) == code


def refusal(*args):
    with pytest.raises(CorpusError) as error:
        resolve(*args)
    return str(error.value)


def test_unknown_languages_are_refused_with_the_nearest():
    assert refusal("Swahilli").startswith(
        "unknown language: 'Swahilli'; did you mean 'Swahili' (swh_Latn) or"
    )
    assert refusal("jp") == "unknown language: 'jp'"
    assert refusal("Swahilli", ["swh_Latn", "xyz"]) == (
        "unknown language: 'Swahilli'; did you mean 'swh_Latn'? (known: swh_Latn, xyz)"
    )
    assert refusal("sr-Cyrl", ["srp_Latn"]).startswith("unknown language: 'sr-Cyrl'; did you mean")


def test_an_ambiguous_language_is_refused_with_its_choices():
    assert refusal("ku", KNOWN) == "language 'ku' is ambiguous; use one of kmr_Cyrl, kmr_Arab"


def test_a_thousand_codes_are_not_listed():
    codes = [f"q{a}{b}_Latn" for a in "abcdefghijklmnopqrstuvwxyz" for b in "abcdefghijklmnop"]
    assert refusal("Klingon", codes).endswith(f"(known: {len(codes)} languages)")


def test_a_name_with_a_suffix_is_not_a_language():
    for each in ("Metadata", "Frenchly", "Englishman"):
        assert refusal(each).startswith(f"unknown language: {each!r}")


@pytest.mark.parametrize(
    ("stem", "code"),
    [
        ("deu_Latn", "deu_Latn"), ("cmn_Hans", "cmn_Hans"), ("cat_Latn_vale", "cat_Latn_vale"),
        ("de", "deu_Latn"), ("German", "deu_Latn"), ("xyz", "xyz"), ("aai_Latn", "aai_Latn"),
        ("en_US", "eng_Latn"), ("README", None), ("LICENSE", None), ("metadata", None),
        ("notes", None), ("index", None), ("", None),
    ],
)  # fmt: skip
def test_file_names_that_are_codes(stem, code):
    assert code_of_name(stem) == code


def test_names_and_scripts():
    assert [name(each) for each in ("deu_Latn", "zho_Hans", "zho_Hant", "srp_Latn", "xyz")] == [
        "German", "Chinese (Simplified)", "Chinese (Traditional)", "Serbian (Latin)", "xyz",
    ]  # fmt: skip
    assert [script(each) for each in ("deu", "hin_Deva", "zh", "ko", "xyz", "no language")] == [
        "Latn", "Deva", "Hans", "Hang", None, None,
    ]  # fmt: skip


def test_a_language_name_resolves_to_its_code():
    codes = ["deu_Latn", "zho_Hans", "zho_Hant", "srp_Latn", "kas_Deva", "prs_Arab", "kor_Hang"]
    assert [resolve(name(code)) for code in codes] == codes


@given(st.text(max_size=10))
def test_any_text_is_resolved_or_refused(text):
    try:
        found = resolve(text)
    except CorpusError as error:
        found = None
        message = str(error)
    if found is None:
        assert message.startswith(f"unknown language: {text!r}")
    else:
        assert resolve(found) == found


@pytest.mark.parametrize("code", ["deu_Latn", "de", "German", "ltz_Latn"])
def test_german_and_its_neighbours_write_nouns_with_capitals(code):
    assert capital_nouns(code)


@pytest.mark.parametrize("code", ["eng_Latn", "nld_Latn", "nob", "arb_Arab", "no language"])
def test_others_do_not(code):
    assert not capital_nouns(code)


CERTAIN = {
    # wikis and MediaWiki
    "sr-el": "srp_Latn", "sr-ec": "srp_Cyrl", "zh-yue": "yue_Hant", "zh-min-nan": "nan_Latn",
    "zh-classical": "lzh_Hant", "bat-smg": "sgs_Latn", "fiu-vro": "vro_Latn",
    "be-tarask": "bel_Cyrl_tarask", "cbk-zam": "cbk_Latn",
    # locales
    "sr@latin": "srp_Latn", "uz@cyrillic": "uzn_Cyrl", "sr_RS.UTF-8@latin": "srp_Latn",
    "de_DE.UTF-8": "deu_Latn", "de_DE@euro": "deu_Latn", "fa-AF": "prs_Arab",
    "az_IR": "azb_Arab", "uz_AF": "uzs_Arab", "es-419": "spa_Latn", "ca@valencia":
    "cat_Latn_valencia", "sd@devanagari": "snd_Deva",
    # extended languages
    "nan-tw": "nan_Hant", "ar-arz": "arz_Arab", "ar-apc": "apc_Arab", "zh-wuu": "wuu_Hans",
    "ms-zsm": "zsm_Latn", "sgn-ase": "ase_Sgnw", "zh-gan-HK": "gan_Hant",
    # a macrolanguage has a usual member, and the member a script
    "ps": "pbt_Arab", "qu": "quy_Latn", "no-nyn": "nno_Latn",
}  # fmt: skip


@pytest.mark.parametrize(("form", "code"), CERTAIN.items())
def test_codes_of_wikis_locales_and_extended_languages_mean_one_code(form, code):
    assert resolve(form) == code
    assert code_of_name(form) == code


@pytest.mark.parametrize(
    "form",
    ["simple", "map-bms", "ku-IQ", "my-Zawgyi", "fa-arz", "no-xyz", "de@elvish", "de_ZZZ", "nah"],
)
def test_a_code_that_is_not_certain_is_named_and_never_guessed(form):
    assert refusal(form).startswith(f"unknown language: {form!r}")
    assert code_of_name(form) is None


@pytest.mark.parametrize(
    "word",
    [
        "nr_", "doc_id", "seg_id", "URL", "src", "ref", "sys", "hyp", "num", "label", "has_image",
        "en-de", "fr_it", "deu-v2", "pe", "a", "ids",
        "iso_15924", "iso_639_3", "txt", "log", "tok", "row_id", "Tag", "even", "Allemand", "zz",
    ],
)  # fmt: skip
def test_usual_words_in_names_are_no_languages(word):
    assert code_of_name(word) is None


@pytest.mark.parametrize(
    ("word", "code"),
    [
        ("src_Latn", "src_Latn"),
        ("sun", "sun_Latn"),
        ("nr", "nbl_Latn"),
        ("suomi", "fin_Latn"),
        ("pt-br", "por_Latn"),
        ("fr-ca", "fra_Latn"),
        ("en-DE", "eng_Latn"),
        ("Portuguese (Brazil)", "por_Latn"),
        ("Chinese (Taiwan)", "zho_Hant"),
    ],
)
def test_a_full_code_or_a_common_language_is_kept(word, code):
    assert code_of_name(word) == code
