"""Encoders of torch, models of sentence-transformers, Fabric, and wrappers."""

import pytest
import torch
from torch import nn
from transformers import BertConfig, BertModel

from neuronxa_callback import TapError
from tests.helpers.own_models import (
    TOKENIZER,
    WIDTH,
    NanoGPT,
    OneArgument,
    hits_of,
    own_loop,
    probed,
    spread,
    verdicts_of_nanogpt,
)
from tests.helpers.probes import trained


@pytest.fixture(scope="module")
def expected():
    return verdicts_of_nanogpt()


def test_an_encoder_without_a_mask_runs_one_sentence_at_a_time():
    model = spread(OneArgument(causal=False))
    report = probed(model)
    assert report.run["proof"]["batching"] == "one sentence at a time"
    assert hits_of(report) == own_loop(model, lambda model, ids: model(ids))


class TorchEncoder(nn.Module):
    """``nn.TransformerEncoder``, which has a fused kernel for eval mode."""

    def __init__(self, batch_first=True):
        super().__init__()
        layer = nn.TransformerEncoderLayer(WIDTH, 2, 60, 0.0, nn.GELU(), batch_first=batch_first)
        self.tok = nn.Embedding(400, WIDTH)
        self.encoder = nn.TransformerEncoder(layer, 2)

    def forward(self, src, src_key_padding_mask=None):
        return self.encoder(self.tok(src), src_key_padding_mask=src_key_padding_mask)


class HuggingFaceMask(TorchEncoder):
    def forward(self, input_ids, attention_mask):
        return super().forward(input_ids, attention_mask == 0)


@pytest.mark.parametrize("kind", [TorchEncoder, HuggingFaceMask])
@pytest.mark.filterwarnings("ignore:enable_nested_tensor")
def test_the_encoder_of_torch_is_read_in_spite_of_its_fused_kernel(kind):
    model = spread(kind())
    before = torch.backends.mha.get_fastpath_enabled()
    report = probed(model)
    assert torch.backends.mha.get_fastpath_enabled() is before
    assert report.run["proof"]["batching"] == "together"
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        expected = own_loop(model, lambda model, ids: model(ids, torch.ones_like(ids))
                            if kind is HuggingFaceMask else model(ids))  # fmt: skip
    finally:
        torch.backends.mha.set_fastpath_enabled(before)
    assert hits_of(report) == expected


class TokensFirst(TorchEncoder):
    def forward(self, src):
        return self.encoder(self.tok(src))


def transposed(model, batch):
    return model(batch["input_ids"].T)


@pytest.mark.filterwarnings("ignore:enable_nested_tensor")
def test_a_model_that_wants_tokens_first_is_refused_or_given_them():
    model = spread(TokensFirst(batch_first=False))
    with pytest.raises(TapError, match=r'return model\(batch\["input_ids"\].T\)'):
        probed(model)
    same = TorchEncoder().eval()
    same.load_state_dict(model.state_dict())
    expected = own_loop(same, lambda model, ids: model(ids, torch.zeros_like(ids, dtype=bool)))
    assert hits_of(probed(model, forward=transposed)) == expected


def test_a_sentence_transformer_is_probed_as_its_trainer_holds_it(tmp_path):
    library = pytest.importorskip("sentence_transformers")
    parts = pytest.importorskip("sentence_transformers.models")
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=400, hidden_size=WIDTH, intermediate_size=60, num_hidden_layers=3,
        num_attention_heads=2, max_position_embeddings=64,
    )  # fmt: skip
    spread(BertModel(config)).save_pretrained(tmp_path)
    TOKENIZER.save_pretrained(tmp_path)
    transformer = parts.Transformer(str(tmp_path))
    model = library.SentenceTransformer(
        modules=[transformer, parts.Pooling(WIDTH)], device="cpu"
    ).eval()
    report = probed(model)
    assert report.layers("nasca") == (0, 1, 2)
    assert report.run["proof"]["batching"] == "together"
    bert = next(m for m in model.modules() if isinstance(m, BertModel))
    activation = type(bert.encoder.layer[0].intermediate.intermediate_act_fn)
    expected = own_loop(model, lambda model, ids: bert(input_ids=ids), activation)
    assert hits_of(report) == expected


def test_fabric_wraps_a_model_without_changing_its_scores(expected):
    fabric = pytest.importorskip("lightning.fabric").Fabric(accelerator="cpu", devices=1)
    model = fabric.setup(spread(NanoGPT()))
    report = probed(model)
    assert hits_of(report) == expected
    assert report.fingerprint["model"]["class"] == "NanoGPT"
    assert report.fingerprint["model"]["modules"] == ["h.#.proj"]


def test_a_wrapper_around_a_model_of_transformers_keeps_its_scores():
    class Wrapper(nn.Module):
        def __init__(self):
            super().__init__()
            self.llm = trained()

        def forward(self, pixel_values, input_ids, attention_mask=None, labels=None):
            states = self.llm.get_input_embeddings()(input_ids)
            return self.llm(inputs_embeds=states, attention_mask=attention_mask)

    assert hits_of(probed(Wrapper())) == hits_of(probed(trained()))
