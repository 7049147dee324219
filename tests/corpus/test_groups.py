"""Groups of languages: by script, family, resources, and of one's own."""

import pytest

from neuronxa_callback import ParallelCorpus, ProbeConfig
from neuronxa_callback.corpus.groups import FACTS, KINDS, group_languages
from neuronxa_callback.corpus.tags import parse_tag
from neuronxa_callback.errors import ConfigError

CODES = ("deu_Latn", "hin_Deva", "swh_Latn", "arz_Arab", "yue_Hant", "xyz_Latn")


def test_kinds_of_groups_come_from_codes():
    assert group_languages("script", CODES) == {
        "Arab": ("arz_Arab",),
        "Deva": ("hin_Deva",),
        "Hant": ("yue_Hant",),
        "Latn": ("deu_Latn", "swh_Latn", "xyz_Latn"),
    }
    assert group_languages("family", CODES) == {
        "Afro-Asiatic": ("arz_Arab",),
        "Atlantic-Congo": ("swh_Latn",),
        "Indo-European": ("deu_Latn", "hin_Deva"),
        "Sino-Tibetan": ("yue_Hant",),
        "no-family": ("xyz_Latn",),
    }
    assert group_languages(["resource"], CODES) == {
        "class-1": ("yue_Hant",),
        "class-2": ("swh_Latn",),
        "class-3": ("arz_Arab",),
        "class-4": ("hin_Deva",),
        "class-5": ("deu_Latn",),
        "no-class": ("xyz_Latn",),
    }


def test_the_table_has_each_code_once_in_the_form_of_the_package():
    lines = [x for x in FACTS.read_text("utf-8").splitlines() if not x.startswith("#")][1:]
    rows = [line.split("\t") for line in lines]
    assert len({code for code, _, _ in rows}) == len(rows)
    assert all(parse_tag(code).language == code and family for code, family, _ in rows)
    assert {number for _, _, number in rows} == {"", *"012345"}


def test_every_built_in_language_has_a_family():
    for split in ("dev", "test"):
        corpus = ParallelCorpus.builtin(split)
        assert "no-family" not in group_languages("family", (corpus.pivot, *corpus.languages))


@pytest.mark.parametrize(
    ("groups", "message"),
    [
        ("continent", "unknown kind of groups: 'continent'"),
        (3, "groups must be one of script, family, resource, a mapping of names to languages"),
        (["script", 3], "groups must be one of script"),
        ({"a/b": ["de"]}, "the name of a group must be a text without '/'"),
        ({"mine": []}, "the group mine must be at least one language"),
        ({"mine": [3]}, "the group mine"),
    ],
)
def test_an_unusable_option_is_refused_by_name(groups, message):
    with pytest.raises(ConfigError, match=message):
        ProbeConfig(groups=groups)


def test_a_group_of_a_language_that_is_not_measured_is_refused():
    with pytest.raises(
        ConfigError, match=r"the group 'mine' must name measured languages.*'French'"
    ):
        group_languages({"mine": ["de", "French"]}, CODES)
    with pytest.raises(ConfigError, match="names that differ, got 'Latn'"):
        group_languages(["script", {"Latn": ["de"]}], CODES)


def test_groups_come_from_a_file_too(tmp_path):
    path = tmp_path / "probe.toml"
    path.write_text('groups = ["resource", {mine = ["de", "hin"]}]\n')
    config = ProbeConfig.from_toml(path)
    assert config.groups == ("resource", {"mine": ("de", "hin")})
    path.write_text('[groups]\nsouth = "sw"\n')
    with pytest.raises(ConfigError, match="the group south"):
        ProbeConfig.from_toml(path)
    assert [*KINDS] == ["script", "family", "resource"]
