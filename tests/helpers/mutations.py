"""Damaged JSON: a value somewhere in it is replaced, removed, doubled or nested, or its text is."""

import copy
import json

from hypothesis import strategies as st

NUMBERS = (-1, 0, 1, 2, 10, 11, 2**31, 2**63, -(2**63), 10**300, 0.5, -0.5, 1.5, 1e308, -0.0)
TEXTS = ("", "0", "mean", "zz", "0x1", "1_0", "\u2028", "\ud800", "\x00", "nan", "é" * 300)
VALUES = (*NUMBERS, *TEXTS, None, True, False, [], {}, [None], [[]], {"a": 1}, {"": {}}, [1, 2])
RAW = ("NaN", "Infinity", "-Infinity", "1e999", "9" * 5000, "[" * 3000, '{"a":' * 3000, '"\\ud83d"')
PLACEHOLDER = "\u0001here\u0001"


def paths(value, path=()):
    """The path of every value inside a JSON value."""
    yield path
    if isinstance(value, dict | list):
        children = value.items() if isinstance(value, dict) else enumerate(value)
        for key, child in children:
            yield from paths(child, (*path, key))


def at(value, path):
    """The value at a path."""
    for key in path:
        value = value[key]
    return value


def replaced(value, path, new):
    """A copy with another value at a path."""
    if not path:
        return new
    value = copy.deepcopy(value)
    at(value, path[:-1])[path[-1]] = new
    return value


def nested(depth, value=1):
    """A value in many lists."""
    for _ in range(depth):
        value = [value]
    return value


@st.composite
def changed_values(draw, value, path):
    """Another value in place of the one at a path."""
    old = at(value, path)
    new = draw(st.sampled_from(VALUES) | st.integers(1, 200).map(nested))
    if isinstance(old, int | float) and draw(st.booleans()):
        new = old + draw(st.sampled_from((-100, -1, 1, 100, 0.5)))
    elif isinstance(old, list) and old and draw(st.booleans()):
        new = draw(st.sampled_from((old[:-1], [*old, old[-1]], old[::-1], [*old, None])))
    elif isinstance(old, dict) and old and draw(st.booleans()):
        key = draw(st.sampled_from(sorted(old)))
        rest = {k: v for k, v in old.items() if k != key}
        new = draw(st.sampled_from((rest, {**old, "new": old[key]}, {**rest, key + "x": old[key]})))
    elif isinstance(old, str) and old and draw(st.booleans()):
        new = draw(st.sampled_from((old[:-1], old + old[-1], old.upper(), "f" * len(old))))
    return replaced(value, path, new)


@st.composite
def damaged_texts(draw, value):
    """The JSON text of a value after one to three changes of values or of the text."""
    for _ in range(draw(st.integers(0, 2))):
        value = draw(changed_values(value, draw(st.sampled_from(list(paths(value))))))
    kind = draw(st.sampled_from(("value", "value", "raw", "cut", "insert", "swap", "twice")))
    if kind == "raw":
        path = draw(st.sampled_from(list(paths(value))))
        text = json.dumps(replaced(value, path, PLACEHOLDER))
        return text.replace(json.dumps(PLACEHOLDER), draw(st.sampled_from(RAW)))
    text = json.dumps(value, ensure_ascii=draw(st.booleans()))
    place = draw(st.integers(0, len(text)))
    if kind == "cut":
        return text[:place] if draw(st.booleans()) else text[place:]
    if kind == "insert":
        return text[:place] + draw(st.text(min_size=1, max_size=3)) + text[place:]
    if kind == "swap":
        return (
            text[:place] + text[place + 1 : place + 2] + text[place : place + 1] + text[place + 2 :]
        )
    return text + text if kind == "twice" else text
