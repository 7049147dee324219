"""Models of plain PyTorch and of other libraries, against a loop of one's own."""

import pytest
import torch
from torch import nn
from torch.nn import functional
from transformers import BertConfig, BertModel

from neuronxa_callback import NeuronXACallback, Probe, TapError
from neuronxa_callback.errors import ConfigError
from neuronxa_callback.probe.tokenization import longest_sentence
from tests.helpers.oracle import mask, vector, verdicts
from tests.helpers.probes import config_of, half_translated, trained
from tests.helpers.tiny import tokenizer_of

CORPUS = half_translated(8)
TEXTS = [text for pairs in CORPUS.pairs.values() for pair in pairs for text in pair]
TOKENIZER = tokenizer_of(TEXTS)
WIDTH = 24


class Block(nn.Module):
    def __init__(self, causal):
        super().__init__()
        self.norm, self.qkv, self.out = (
            nn.LayerNorm(WIDTH),
            nn.Linear(WIDTH, 3 * WIDTH),
            nn.Linear(WIDTH, WIDTH),
        )
        self.fc, self.act, self.proj = nn.Linear(WIDTH, 60), nn.GELU(), nn.Linear(60, WIDTH)
        self.causal = causal

    def forward(self, x):
        q, k, v = self.qkv(self.norm(x)).unsqueeze(1).chunk(3, -1)
        x = x + self.out(
            functional.scaled_dot_product_attention(q, k, v, is_causal=self.causal)[:, 0]
        )
        return x + self.proj(self.act(self.fc(x)))


class Net(nn.Module):
    """Subclasses choose the arguments of ``forward`` and the name of the list of blocks."""

    blocks_name = "blocks"

    def __init__(self, causal=True):
        super().__init__()
        self.wte, self.wpe = nn.Embedding(400, WIDTH), nn.Embedding(64, WIDTH)
        setattr(self, self.blocks_name, nn.ModuleList(Block(causal) for _ in range(3)))
        self.head = nn.Linear(WIDTH, 400)

    def logits(self, ids):
        x = self.wte(ids) + self.wpe(torch.arange(ids.shape[1]))
        for block in getattr(self, self.blocks_name):
            x = block(x)
        return self.head(x)

    def loss(self, ids, labels):
        return functional.cross_entropy(self.logits(ids).flatten(0, 1), labels.flatten())


class NanoGPT(Net):
    blocks_name = "h"

    def forward(self, idx, targets=None):
        return self.logits(idx), None


class Titan(Net):
    blocks_name = "layers"

    def forward(self, tokens, start=0):
        return self.logits(tokens)


class OneArgument(Net):
    def forward(self, x):
        return self.logits(x)


class PositionalOnly(Net):
    def forward(self, sequences, /):
        return self.logits(sequences)


class KeywordOnly(Net):
    def forward(self, *, ids):
        return {"logits": self.logits(ids)}


class NoReturnDict(Net):
    def forward(self, input_ids, attention_mask=None, labels=None):
        return self.logits(input_ids)


class RequiredLabels(Net):
    def forward(self, input_ids, attention_mask, labels):
        logits = self.logits(input_ids)
        return functional.cross_entropy(logits.flatten(0, 1), labels.flatten()), logits


class SentenceLabels(Net):
    def forward(self, input_ids, labels):
        return functional.cross_entropy(self.logits(input_ids)[:, -1], labels)


class DictInput(Net):
    def forward(self, batch):
        return self.logits(batch["input_ids"])


class DictWithLabels(Net):
    def forward(self, features: dict):
        return self.loss(features["tokens"], features["labels"])


class Keywords(Net):
    def forward(self, **batch):
        return self.loss(batch["input_ids"], batch["labels"])


class NoOptions(Net):
    def forward(self, input_ids=None, **options):
        if options:
            raise TypeError(f"unexpected {options}")
        return self.logits(input_ids)


class ImagesToo(Net):
    def forward(self, pixel_values, text):
        assert pixel_values is None
        return self.logits(text)


class Inner(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = NanoGPT()

    def forward(self, *args, **kwargs):
        return self.net(*args, **kwargs)


MODELS = [
    NanoGPT, Titan, OneArgument, PositionalOnly, KeywordOnly, NoReturnDict, RequiredLabels,
    SentenceLabels, DictInput, DictWithLabels, Keywords, NoOptions, ImagesToo, Inner,
]  # fmt: skip


def spread(model, seed=0):
    """The model with weights that tell sentences apart."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(0.4 * torch.randn(parameter.shape, generator=generator))
    return model.eval()


def own_loop(model, run, activation=nn.GELU):
    """NASCA's verdicts per layer: hooks on the activations, one sentence at a time."""
    states = []
    hooks = [
        module.register_forward_hook(lambda _, __, out: states.append(out[0].double()))
        for module in model.modules()
        if isinstance(module, activation)
    ]

    def vectors(text):
        states.clear()
        with torch.no_grad():
            run(model, torch.tensor([TOKENIZER(text)["input_ids"]]))
        return [vector(each, "nas") for each in states]

    found = {}
    for language, pairs in CORPUS.pairs.items():
        sides = [list(zip(*map(vectors, side), strict=True)) for side in zip(*pairs, strict=True)]
        found[language] = tuple(mask(verdicts(*layer)) for layer in zip(*sides, strict=True))
    for hook in hooks:
        hook.remove()
    return found


def probed(model, forward=None, **options):
    return Probe(config_of(CORPUS, **options), TOKENIZER, forward=forward).run(model)


def hits_of(report):
    return {language: tuple(hits) for language, hits in report.metrics["nasca"].hits.items()}


@pytest.fixture(scope="module")
def expected():
    """The verdicts of every causal model here: they have the same weights."""
    found = own_loop(spread(NanoGPT()), lambda model, ids: model(ids))
    assert len(set(found["deu_Latn"])) > 1
    return found


@pytest.mark.parametrize("kind", MODELS)
def test_a_model_is_called_by_its_signature(kind, expected):
    report = probed(spread(kind()))
    assert hits_of(report) == expected
    assert report.run["proof"]["batching"] == "together"
    assert "forward" not in report.fingerprint["model"]


def call_the_body(model, batch):
    return model.logits(batch["input_ids"])


class Unclear(Net):
    def forward(self, x, mask):
        raise NotImplementedError


def test_a_function_calls_a_model_whose_signature_is_unclear(expected):
    report = probed(spread(Unclear()), forward=call_the_body)
    assert hits_of(report) == expected
    assert report.fingerprint["model"]["forward"] == "call_the_body"
    callback = NeuronXACallback(config_of(CORPUS), forward=call_the_body)
    assert callback.make_probe(TOKENIZER).forward is call_the_body


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        (Unclear, "Unclear.forward(x, mask) must be called with mask, whose meaning is not known"),
        (type("None_", (Net,), {"forward": lambda self: 0}), "None_.forward takes no token ids"),
        (
            type("Fails", (Net,), {"forward": lambda self, idx: idx.nothing}),
            "the probe must know how to call Fails.forward(idx), but its call failed with"
            " AttributeError: 'Tensor' object has no attribute 'nothing'",
        ),
        (
            type("Wants", (Net,), {"forward": lambda self, batch: batch["speaker"]}),
            "the probe must know how to call Wants.forward(batch), but its call failed with"
            " KeyError: 'speaker'",
        ),
        (type("Empty", (Net,), {}), "Empty must have a forward, but it defines none"),
    ],
)
def test_a_call_that_is_not_known_is_refused_and_shows_forward(kind, message):
    with pytest.raises(ConfigError) as error:
        probed(kind())
    assert str(error.value).startswith(message)
    assert 'def forward(model, batch): return model(batch["input_ids"])' in str(error.value)


def test_a_function_that_fails_is_named():
    def lookup(model, batch):
        return model(batch["labels"])

    with pytest.raises(ConfigError, match="lookup failed with KeyError: 'labels'"):
        probed(NanoGPT(), forward=lookup)
    with pytest.raises(ConfigError, match="forward must be a function of a model and a batch"):
        Probe(config_of(CORPUS), TOKENIZER, forward="model")


def test_mexa_needs_a_function_that_returns_hidden_states():
    with pytest.raises(ConfigError, match="NanoGPT returns no hidden_states; give forward="):
        probed(NanoGPT(), metrics=("mexa",))

    def with_states(model, batch):
        x = model.wte(batch["input_ids"])
        states = [x]
        for block in model.h:
            states.append(block(states[-1]))
        return {"hidden_states": states}

    report = probed(spread(NanoGPT()), forward=with_states, metrics=("mexa",))
    assert len(report.layers("mexa")) == 4


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_other_dtypes_are_read(dtype, expected):
    report = probed(spread(NanoGPT()).to(dtype))
    assert report.fingerprint["model"]["states"] == str(dtype).removeprefix("torch.")
    if dtype == torch.float64:
        assert report.score("nasca") == pytest.approx(
            sum(hits.bit_count() for row in expected.values() for hits in row) / (8 * 3 * 2),
            abs=0.05,
        )


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


@pytest.mark.parametrize("limit", ["table", "config", "dictionary"])
def test_the_longest_sentence_comes_from_tables_or_options(limit):
    model = NanoGPT()
    if limit != "table":
        options = {"block_size": 16}
        model.config = options if limit == "dictionary" else type("Config", (), options)()
        if limit == "config":
            vars(model.config).update(options)
    assert longest_sentence(model, TOKENIZER) == (64 if limit == "table" else 16)


def test_a_token_outside_of_the_table_is_refused():
    model = NanoGPT()
    model.wte = nn.Embedding(90, WIDTH)
    with pytest.raises(ConfigError, match="is outside its 90 rows"):
        probed(model)


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
