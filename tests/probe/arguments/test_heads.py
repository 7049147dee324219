"""Heads that want choices, or an end of each sentence: the neurons below them are read right."""

import pytest
import torch
import transformers
from tokenizers.processors import TemplateProcessing

from neuronxa_callback import Probe
from neuronxa_callback.errors import ConfigError
from tests.helpers.probes import config_of
from tests.helpers.tiny import parallel, tokenizer_of

BERT = {"vocab_size": 400, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4,
        "intermediate_size": 64, "pad_token_id": 0}  # fmt: skip
BART = {"vocab_size": 400, "d_model": 32, "encoder_layers": 2, "decoder_layers": 2,
        "encoder_attention_heads": 4, "decoder_attention_heads": 4, "encoder_ffn_dim": 64,
        "decoder_ffn_dim": 64, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2,
        "decoder_start_token_id": 2, "max_position_embeddings": 128}  # fmt: skip
T5 = {"vocab_size": 400, "d_model": 32, "d_kv": 8, "d_ff": 64, "num_layers": 2, "num_heads": 4,
      "pad_token_id": 0, "eos_token_id": 2, "decoder_start_token_id": 0}  # fmt: skip
KINDS = {"Bart": BART, "MBart": BART, "T5": T5, "UMT5": T5}


@pytest.fixture(scope="module")
def corpus():
    return parallel(12)


def tokenizer(corpus, ends):
    made = tokenizer_of(
        [text for pairs in corpus.pairs.values() for pair in pairs for text in pair]
    )
    if ends:
        made.backend_tokenizer.post_processor = TemplateProcessing(
            single="$A </s>", special_tokens=[("</s>", made.eos_token_id)]
        )
    return made


def make(name, options, seed=0):
    torch.manual_seed(seed)
    config = getattr(transformers, f"{name.partition('For')[0].removesuffix('Model')}Config")
    return getattr(transformers, name)(config(**options)).eval()


def scores_of(model, corpus, ends, **options):
    config = config_of(corpus, batch_tokens=64, **options)
    return Probe(config, tokenizer(corpus, ends)).run(model).metrics


@pytest.mark.parametrize("kind", ["Bert", "Roberta", "Electra"])
def test_multiple_choice_has_the_scores_of_its_body(kind, corpus):
    whole = make(f"{kind}ForMultipleChoice", BERT)
    body = getattr(whole, whole.base_model_prefix)
    assert scores_of(whole, corpus, ends=False) == scores_of(body, corpus, ends=False)


@pytest.mark.parametrize("kind", KINDS)
def test_sequence_classification_has_the_scores_of_its_encoder(kind, corpus):
    whole = make(f"{kind}ForSequenceClassification", KINDS[kind])
    body = make(f"{kind}Model", KINDS[kind], seed=1)
    body.load_state_dict(getattr(whole, whole.base_model_prefix).state_dict())
    for stack in ("encoder", "decoder", "both"):
        found = scores_of(whole, corpus, ends=True, stack=stack)
        assert found == scores_of(body, corpus, ends=True, stack=stack)


@pytest.mark.parametrize("kind", KINDS)
def test_sentences_without_an_end_are_refused_by_name(kind, corpus):
    whole = make(f"{kind}ForSequenceClassification", KINDS[kind])
    with pytest.raises(ConfigError) as error:
        scores_of(whole, corpus, ends=False)
    assert str(error.value) == (
        f"{kind}ForSequenceClassification needs the same number of end tokens (id 2) in all"
        " sentences, at least one, but they have 0 to 0; use a tokenizer and special_tokens=True"
        " that add one, or probe the model without its head, such as"
        " Probe(...).run(model.get_encoder())"
    )
    assert scores_of(whole.get_encoder(), corpus, ends=False)
