"""A chat template, rendered alike at every probe and on every day."""

import json
import random
from datetime import datetime
from functools import cache
from string import ascii_letters
from typing import Any

from neuronxa_callback.errors import ConfigError

PLACEHOLDER = "{sentence}"
MORNING, EVENING = datetime(2024, 7, 26, 1, 12, 23), datetime(2024, 7, 26, 22, 54, 56)
"""A template that asks for the date gets this one on every day, so that a run resumes on another
day. It is the date that Llama 3's template shows without a clock. Both times must give one text."""
RENDERINGS = 16
"""How often a template is rendered, with different random numbers, to see whether it is random."""


class ChatTemplate:
    """The chat template of a tokenizer.

    Args:
        tokenizer: A tokenizer with ``apply_chat_template``.

    Raises:
        ConfigError: If it has no chat template, or one that depends on the time of day or on
            random numbers, or leaves the sentence out.
    """

    def __init__(self, tokenizer: Any) -> None:
        self.tokenizer = tokenizer
        self._source = _source_of(tokenizer)
        self.date = MORNING.date().isoformat() if "strftime_now" in self._source else None
        """The fixed date that the template gets; None if it does not ask for one."""
        self._in_parts = False
        """Whether the content of a message is a list of parts, as in templates with images."""
        state = random.getstate()
        try:
            self._in_parts = PLACEHOLDER not in self.render(PLACEHOLDER)
            self.rendered = self.render(PLACEHOLDER)
            """The text around a placeholder."""
            self._require_sentence()
            self._refuse_random_numbers()
        finally:
            random.setstate(state)
        self._refuse_time()

    def render(self, text: str, now: datetime = MORNING) -> str:
        """The text of a conversation in which a user says ``text``.

        Raises:
            ConfigError: If the template cannot be rendered.
        """
        fixed = {"chat_template": _clock(now) + self._source} if self.date else {}
        content = [{"type": "text", "text": text}] if self._in_parts else text
        turns = [{"role": "user", "content": content}]
        try:
            return str(self.tokenizer.apply_chat_template(turns, tokenize=False, **fixed))
        except Exception as cause:
            raise ConfigError(
                "template='chat' needs a tokenizer whose chat template renders a message of a user,"
                f" but it ends in {type(cause).__name__}: {cause}; set template to a text with"
                f" {PLACEHOLDER} instead"
            ) from cause

    def _require_sentence(self) -> None:
        if PLACEHOLDER not in self.rendered:
            raise ConfigError(
                "the chat template must contain the message of a user, but it gives"
                f" {self.rendered[:60]!r} for {PLACEHOLDER!r}; set template to a text with"
                f" {PLACEHOLDER} instead of 'chat'"
            )

    def _refuse_time(self) -> None:
        later = self.render(PLACEHOLDER, EVENING)
        if later != self.rendered:
            raise ConfigError(
                "the chat template must give the same text at any time of day, but it calls"
                f" strftime_now for the time ({_difference(self.rendered, later)}); {_WAY_OUT}"
            )

    def _refuse_random_numbers(self) -> None:
        for seed in range(RENDERINGS):
            random.seed(seed)
            other = self.render(PLACEHOLDER)
            if other != self.rendered:
                raise ConfigError(
                    "the chat template must give the same text every time, but it does not"
                    f" ({_difference(self.rendered, other)}); {_WAY_OUT}"
                )


_WAY_OUT = (
    f"set template to a text with {PLACEHOLDER} instead of 'chat', or take the time and random"
    " numbers out of the chat template"
)


def _source_of(tokenizer: Any) -> str:
    """The source of the chat template; empty if the tokenizer does not show it."""
    try:
        return str(tokenizer.get_chat_template())
    except (AttributeError, TypeError, ValueError):
        return ""


@cache
def _clock(now: datetime) -> str:
    """A ``strftime_now`` for the beginning of a chat template, which returns a fixed time.

    A template gets no functions from outside, so this one replaces each directive of a format.
    """
    directives = [f"%{flag}{letter}" for flag in ("", *"-_0^#") for letter in ascii_letters]
    values = {form: now.strftime(form) for form in directives}
    changed = {form: value for form, value in values.items() if value != form}
    pairs = json.dumps([["%%", "\0"], *changed.items(), ["\0", "%"]])
    # The line break belongs to the block (trim_blocks): the template begins on a line of its own.
    return (
        "{%- macro strftime_now(format) -%}{%- set clock = namespace(text=format) -%}"
        f"{{%- for form, value in {pairs} -%}}"
        "{%- set clock.text = clock.text|replace(form, value) -%}"
        "{%- endfor -%}{{- clock.text -}}{%- endmacro %}\n"
    )


def _difference(one: str, other: str) -> str:
    """A few letters of two texts around their first difference."""
    shorter = min(len(one), len(other))
    at = next((k for k in range(shorter) if one[k] != other[k]), shorter)
    return " and ".join(repr(text[max(0, at - 20) : at + 20]) for text in (one, other))
