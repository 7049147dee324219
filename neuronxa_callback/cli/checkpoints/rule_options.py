"""Stop rules on the command line: ``collapse:drop=0.1,languages=de+sw``."""

import inspect
from collections.abc import Sequence
from typing import Any

from neuronxa_callback.corpus.languages import resolve
from neuronxa_callback.errors import ConfigError, unknown
from neuronxa_callback.history.rule_events import as_rules
from neuronxa_callback.history.stopping import KINDS, WORST, StopRule


def parse_rules(stops: Sequence[str], alerts: Sequence[str]) -> tuple[StopRule, ...]:
    """The rules of ``--stop`` and ``--alert``.

    Raises:
        ConfigError: If a rule cannot be read, or two have one name.
    """
    rules = [parse_rule(text, "stop") for text in stops]
    return as_rules([*rules, *(parse_rule(text, "alert") for text in alerts)])


def parse_rule(text: str, action: str = "stop") -> StopRule:
    """A rule from ``KIND:option=value,option=value``; several languages are joined with ``+``.

    Raises:
        ConfigError: If kind, option or value is unknown.

    >>> rule = parse_rule("collapse:drop=0.1,languages=de+sw,name=both", "alert")
    >>> rule.kind, rule.amount, rule.languages, rule.name
    ('collapse', 0.1, ('deu_Latn', 'swh_Latn'), 'both')
    """
    kind, _, rest = text.partition(":")
    if kind not in KINDS:
        raise ConfigError(unknown("kind of a stop rule", kind, KINDS))
    make = getattr(StopRule, kind)
    known = dict(inspect.signature(make).parameters)
    del known["action"]
    options: dict[str, Any] = {"action": action}
    for part in filter(None, rest.split(",")):
        name, equals, value = (piece.strip() for piece in part.partition("="))
        if not equals or not value:
            raise ConfigError(f"an option of a rule must be name=value, got {part!r} in {text!r}")
        if name not in known:
            raise ConfigError(unknown(f"option of {kind}", name, known))
        options[name] = _value(name, known[name], value, text)
    missing = [n for n, o in known.items() if o.default is o.empty and n not in options]
    if missing:
        raise ConfigError(f"{kind} needs {missing[0]}, as in {kind}:{missing[0]}=0.5, got {text!r}")
    rule: StopRule = make(**options)
    return rule


def _value(name: str, option: inspect.Parameter, value: str, text: str) -> Any:
    if name == "languages":
        return value if value == WORST else tuple(resolve(code) for code in value.split("+"))
    if option.annotation not in (int, float):
        return value
    try:
        return option.annotation(value)
    except ValueError:
        raise ConfigError(f"{name} of a rule must be a number, got {value!r} in {text!r}") from None
