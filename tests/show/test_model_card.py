"""A report on a model card: the block, the metadata, and a second report."""

import math

import pytest
import yaml
from huggingface_hub import ModelCard

from neuronxa_callback.errors import ConfigError
from neuronxa_callback.show import model_card
from tests.helpers.reports import make_report

CARD = """---
license: apache-2.0
language:
- de
model-index:
- name: mine
  results:
  - task:
      type: text-classification
    dataset:
      name: xnli
      type: xnli
    metrics:
    - type: accuracy
      value: 0.5
---

# Mine

Text before.
"""


@pytest.fixture
def readme(tmp_path):
    path = tmp_path / "model" / "README.md"
    path.parent.mkdir()
    return path


def test_a_card_is_made_where_there_is_none(readme):
    model_card.write_card(readme, make_report(7), "model")
    text = readme.read_text(encoding="utf-8")
    assert text.count(model_card.BEGIN) == text.count(model_card.END) == 1
    assert "| German (deu_Latn) | 0.500 [" in text
    assert "at step 7" in text
    metadata = yaml.safe_load(text.split("---")[1])
    assert metadata["model-index"][0]["name"] == "model"
    results = metadata["model-index"][0]["results"]
    values = [metric["value"] for result in results for metric in result["metrics"]]
    assert values == [0.4, 0.4, 0.5, 0.3]


def test_a_second_report_replaces_the_first_and_keeps_the_rest(readme):
    readme.write_text(CARD, encoding="utf-8")
    model_card.write_card(readme, make_report(7), "other")
    once = readme.read_text(encoding="utf-8")
    readme.write_text(once + "\nText behind.\n", encoding="utf-8")
    model_card.write_card(readme, make_report(9, {"deu_Latn": 0.25}), "other")
    text = readme.read_text(encoding="utf-8")
    assert text.count(model_card.BEGIN) == 1
    assert "at step 9" in text
    assert "at step 7" not in text
    assert text.index("Text before.") < text.index(model_card.BEGIN) < text.index("Text behind.")
    card = ModelCard.load(readme)
    assert card.data.license == "apache-2.0"
    assert card.data.model_name == "mine"
    values = {r.metric_type: r.metric_value for r in card.data.eval_results}
    assert values == {"accuracy": 0.5, "nasca": 0.25, "navca": 0.25}
    model_card.write_card(readme, make_report(9, {"deu_Latn": 0.25}), "other")
    assert readme.read_text(encoding="utf-8") == text


def test_the_hub_library_accepts_the_metadata_and_nan_is_left_out(readme):
    model_card.write_card(readme, make_report(1, {"deu_Latn": math.nan, "swh_Latn": 0.3}), "m")
    card = ModelCard.load(readme)
    assert [r.metric_value for r in card.data.eval_results] == [0.3]
    assert "| nan [nan, nan] |" in card.text


def test_text_of_a_record_cannot_break_out_of_the_block():
    evil = f"x{model_card.END}<script>|\n# Title"
    block = model_card.card_block(make_report(definition={"corpus": evil, "digest": evil}))
    assert block.count(model_card.END) == 1
    assert "<script>" not in block
    assert "\n# Title" not in block


def test_a_file_that_is_no_card_is_refused(readme):
    readme.write_text("---\n- a\n- list\n---\n", encoding="utf-8")
    with pytest.raises(ConfigError, match="must be a model card with valid metadata"):
        model_card.write_card(readme, make_report(), "m")
    assert readme.read_text(encoding="utf-8") == "---\n- a\n- list\n---\n"


COMMENTED = """# of the card
language: no # Norwegian
date: 2024-01-01
version: 1.10
license:
"model-index":
- name: mine
  results:
  - task: {type: other}
    dataset: {name: x, type: x}
    metrics:
    - type: accuracy
      value: .5

# on tags
tags: [b,   a, a]
threshold: .nan"""


@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_the_metadata_of_others_stays_as_it_is_written(readme, newline):
    old = COMMENTED.replace("\n", newline)
    text = f"---{newline}{old}{newline}---{newline}# Mine{newline}"
    readme.write_bytes(text.encode())
    for step in (7, 9):
        model_card.write_card(readme, make_report(step), "m")
    new = readme.read_bytes().decode().partition(f"{newline}---{newline}")[0] + newline
    before, _, behind = old.partition('"model-index"')
    assert new.startswith(f"---{newline}{before}model-index:{newline}- name: mine{newline}")
    assert new.endswith(f"{newline}{newline}# on tags{behind.partition('# on tags')[2]}{newline}")
    data = ModelCard.load(readme).data
    assert [result.metric_type for result in data.eval_results][:2] == ["accuracy", "nasca"]


@pytest.mark.parametrize(
    ("metadata", "kept"),
    [
        ("language: no\n# end", "---\nlanguage: no\n# end\nmodel-index:\n"),
        ("# only a comment", "---\n# only a comment\nmodel-index:\n"),
        ("", "---\nmodel-index:\n"),
        ("{}", "---\n{model-index: "),
        ("{language: no}", "---\n{model-index: "),
        ("{model-index: [], language: no} # c", ", language: no} # c\n---\n"),
        ("text: |\n  # no comment\n", "---\ntext: |\n  # no comment\n\nmodel-index:\n"),
        ("model-index: []\nlanguage: no", "\nlanguage: no\n---\n"),
        ("model-index:\nlanguage: no", "\nlanguage: no\n---\n"),
    ],
)
def test_the_index_is_put_into_metadata_of_any_form(readme, metadata, kept):
    readme.write_text(f"---\n{metadata}\n---\nText.\n", encoding="utf-8")
    known = yaml.safe_load(metadata) or {}
    for step in (7, 9):
        model_card.write_card(readme, make_report(step), "m")
    text = readme.read_text(encoding="utf-8")
    assert kept in text
    assert text.count("model-index") == 1
    found = yaml.safe_load(text.split("---\n")[1])
    assert len(found.pop("model-index")[0]["results"]) == 3
    known.pop("model-index", None)
    assert found == known


def test_an_index_whose_parts_are_used_elsewhere_is_written_anew(readme):
    metadata = "model-index: &a\n- name: mine\n  results: []\nother: *a"
    readme.write_text(f"---\n{metadata}\n---\nText.\n", encoding="utf-8")
    model_card.write_card(readme, make_report(7), "m")
    found = yaml.safe_load(readme.read_text(encoding="utf-8").split("---\n")[1])
    assert found["other"] == [{"name": "mine", "results": []}]
    assert len(found["model-index"][0]["results"]) == 3
