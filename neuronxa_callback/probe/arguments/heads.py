"""Heads of transformers that want more than sentences: choices, or an end of each sentence."""

from typing import Any

from torch import Tensor, nn

from neuronxa_callback.errors import ConfigError


def has_head(base: nn.Module, ending: str) -> bool:
    """Whether the model's class, or one that it extends, has a name with this ending."""
    return any(kind.__name__.endswith(ending) for kind in type(base).__mro__)


def is_multiple_choice(base: nn.Module) -> bool:
    """Whether the model wants [sentences, choices, tokens]."""
    return has_head(base, "ForMultipleChoice")


def reads_end_of_sentence(base: nn.Module) -> bool:
    """Whether the head takes the decoder's state at the end of each sentence (BART, T5)."""
    two_stacks = getattr(getattr(base, "config", None), "is_encoder_decoder", False)
    return bool(two_stacks) and has_head(base, "ForSequenceClassification")


def require_ends(base: nn.Module, ids: Tensor) -> None:
    """Raises an error unless all rows have equally many ends of a sentence, at least one.

    Args:
        base: A model that ``reads_end_of_sentence``.
        ids: [sentences, tokens], on the host.

    Raises:
        ConfigError: Names the token.
    """
    config: Any = base.config
    ends = (ids == config.eos_token_id).sum(dim=1)
    if bool((ends == ends[0]).all()) and int(ends[0]) > 0:
        return
    raise ConfigError(
        f"{type(base).__name__} needs the same number of end tokens (id {config.eos_token_id}) in"
        f" all sentences, at least one, but they have {int(ends.min())} to {int(ends.max())}; use a"
        " tokenizer and special_tokens=True that add one, or probe the model without its head,"
        " such as Probe(...).run(model.get_encoder())"
    )
