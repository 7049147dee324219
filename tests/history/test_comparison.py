"""Two reports against each other."""

import pytest

from neuronxa_callback.errors import ConfigError, FingerprintError
from neuronxa_callback.history import compare
from neuronxa_callback.history.points import Point, change
from tests.helpers.reports import make_report


def test_reports_of_two_runs_are_compared_language_by_language():
    before = make_report(5, {"a": 0.5, "b": 0.5})
    after = make_report(9, {"a": 0.6, "b": 0.51}, model={"class": "Gemma"})
    found = compare(before, after, "nasca")
    assert list(found) == ["a", "b"]
    assert found["a"].difference == pytest.approx(0.1)
    assert (found["a"].significant, found["b"].significant) == (True, False)
    alone = change(Point.of(before), Point.of(after), "nasca", ("a",))
    assert found["a"].p == pytest.approx(2 * alone.p)


def test_significance_of_many_languages_is_holms():
    # Alone, 6 pairs of 100 are significant (p = 0.013); as one of 20 languages they are not.
    names = [f"l{k}" for k in range(20)]
    before = make_report(0, dict.fromkeys(names, 0.5))
    after = make_report(0, dict.fromkeys(names, 0.5) | {"l0": 0.56})
    assert change(Point.of(before), Point.of(after), "nasca", ("l0",)).significant
    assert not compare(before, after, "nasca")["l0"].significant


def test_what_cannot_be_compared_is_refused():
    one = make_report(0)
    with pytest.raises(FingerprintError) as error:
        compare(one, make_report(0, n_pairs=50), "nasca")
    assert str(error.value) == (
        "reports of one curve must agree in definition, but n_pairs is 100 in one and 50 in the"
        " other"
    )
    renamed = make_report(0, definition={"corpus": "moved"})
    with pytest.raises(FingerprintError):
        compare(make_report(0, definition={"corpus": "here"}), renamed, "nasca")
    here, moved = (
        make_report(0, definition={"corpus": name, "digest": "d1"}) for name in ("here", "moved")
    )
    assert not compare(here, moved, "nasca")["deu_Latn"].significant
    with pytest.raises(ConfigError) as error:
        compare(one, one, "nsca")
    words = "unknown metric: 'nsca'; did you mean 'nasca' or 'navca'? (known: nasca, navca)"
    assert str(error.value) == words
