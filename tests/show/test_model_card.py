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
