"""The options of a probe: their checks, TOML files, and the corpus that they name."""

import pytest

from neuronxa_callback import ParallelCorpus, ProbeConfig
from neuronxa_callback.config import as_probe_config
from neuronxa_callback.errors import ConfigError, CorpusError
from tests.helpers.tiny import parallel


def test_a_corpus_a_path_or_nothing_is_a_configuration(tmp_path):
    file = tmp_path / "probe.toml"
    file.write_text("n_pairs = 7\n", encoding="utf-8")
    assert as_probe_config(None) == ProbeConfig()
    assert as_probe_config(file) == as_probe_config(str(file)) == ProbeConfig(n_pairs=7)
    corpus = parallel(12)
    assert as_probe_config(corpus) == ProbeConfig(corpus=corpus, n_pairs=12)
    with pytest.raises(ConfigError) as error:
        as_probe_config(3)
    assert str(error.value) == (
        "config must be a ProbeConfig, a path to a TOML file, a ParallelCorpus or None, got int"
    )


def test_a_corpus_must_have_a_path_and_a_known_reader():
    with pytest.raises(CorpusError, match="did you mean 'folder'"):
        ProbeConfig(corpus={"reader": "foldr", "path": "x"}).load()
    with pytest.raises(ConfigError, match="a corpus with reader 'tsv' must have a path"):
        ProbeConfig(corpus={"reader": "tsv"}).load()


def test_the_corpus_of_a_file_lies_beside_it(tmp_path):
    corpus = ParallelCorpus.builtin()
    folder = tmp_path / "text"
    folder.mkdir()
    for code, column in (("eng_Latn", 0), ("deu_Latn", 1)):
        lines = [pair[column] for pair in corpus.pairs["deu_Latn"]]
        (folder / f"{code}.dev").write_text("\n".join(lines) + "\n", encoding="utf-8")
    file = tmp_path / "probe.toml"
    file.write_text('n_pairs = 9\n[corpus]\nreader = "folder"\npath = "text"\n', encoding="utf-8")
    config = ProbeConfig.from_toml(file)
    assert config.load().in_file_order().pairs == {"deu_Latn": corpus.pairs["deu_Latn"]}
    file.write_text('[corpus]\npath = "text"\norder = "file"\n', encoding="utf-8")
    assert ProbeConfig.from_toml(file).load().pairs == {"deu_Latn": corpus.pairs["deu_Latn"]}
    file.write_text('n_pairs = 9\ncorpus = "text"\n', encoding="utf-8")
    assert ProbeConfig.from_toml(file).load() == config.load()


def test_a_corpus_that_is_no_path_is_left_as_it_is(tmp_path):
    file = tmp_path / "probe.toml"
    (tmp_path / "builtin").mkdir()
    file.write_text('corpus = "builtin"\n')
    assert ProbeConfig.from_toml(file).load() == ParallelCorpus.builtin()
    file.write_text('[corpus]\nreader = "dataset"\npath = "org/name"\n')
    assert ProbeConfig.from_toml(file).corpus == {"reader": "dataset", "path": "org/name"}


def test_of_a_large_folder_only_what_is_needed_is_read(tmp_path):
    for code in ("eng", "deu", "fra"):
        lines = [f"{code} {k}" for k in range(5000)]
        (tmp_path / f"{code}.txt").write_text("\n".join(lines), encoding="utf-8")
    (tmp_path / "fra.txt").write_bytes(b"\xff" * 99)
    config = ProbeConfig(corpus=str(tmp_path), languages=("de",), n_pairs=50)
    assert config.load().n_pairs == 200
    few = ProbeConfig(corpus=str(tmp_path), languages=("de",), n_pairs=4999)
    assert few.load().n_pairs == 5000


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (
            {"metrics": ("nasca", "neuronxa")},
            "unknown metric: 'neuronxa'; did you mean 'mexa'?"
            " (known: nasca, navca, mexa, mexa_last)",
        ),
        (
            {"metrics": "nasca"},
            "metrics must be a list of names, got the text 'nasca'",
        ),
        (
            {"metrics": ()},
            "metrics must name at least one of nasca, navca, mexa, mexa_last, got none",
        ),
        (
            {"nas_site": "gates"},
            "unknown nas_site: 'gates'; did you mean 'gate'? (known: gate, product)",
        ),
        ({"n_pairs": 1}, "n_pairs must be an integer of at least 2, got 1"),
        (
            {"language_pairs_every": -1},
            "language_pairs_every must be an integer of at least 0, got -1",
        ),
        ({"language_pairs_gib": 0}, "language_pairs_gib must be a number above 0, got 0"),
        ({"language_pairs_gib": "8"}, "language_pairs_gib must be a number above 0, got '8'"),
        ({"n_pairs": 2.5}, "n_pairs must be an integer of at least 2, got 2.5"),
        (
            {"template": "Say it"},
            "template must contain {sentence} once, or be 'chat', got 'Say it'",
        ),
        (
            {"diagnostics": ("margin",)},
            "unknown diagnostic: 'margin'; did you mean 'margins'? (known: surface, margins, sinks,"
            " activity, tokens, drift, loss)",
        ),
        (
            {"metrics": ("nasca", "mexa", "mexa_last"), "stack": "both"},
            "the hidden states that mexa reads must be those of one stack, got stack='both'; set"
            " stack to 'encoder' or 'decoder', or leave mexa and mexa_last out of metrics",
        ),
        (
            {"neuron_modules": ["model.layers.0.mlp.down_proj"]},
            "neuron_modules must be a regular expression or a function of the model, got"
            " ['model.layers.0.mlp.down_proj']",
        ),
    ],
)
def test_bad_options_are_named(options, words):
    with pytest.raises(ConfigError) as error:
        ProbeConfig(**options)
    assert str(error.value) == words


def test_files_that_cannot_be_used_are_named(tmp_path):
    with pytest.raises(ConfigError, match="there is no configuration file"):
        ProbeConfig.from_toml(tmp_path / "none.toml")
    file = tmp_path / "probe.toml"
    file.write_text("n_pair = 3\n", encoding="utf-8")
    with pytest.raises(ConfigError, match="did you mean 'n_pairs'"):
        ProbeConfig.from_toml(file)
    file.write_text("n_pairs = 3\n", encoding="utf-8-sig")
    assert ProbeConfig.from_toml(file).n_pairs == 3
    file.write_text("= 3\n", encoding="utf-8")
    with pytest.raises(ConfigError, match="is not a TOML file"):
        ProbeConfig.from_toml(file)
