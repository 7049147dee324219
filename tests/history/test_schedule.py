"""Which steps are probed, and how the interval is chosen."""

import pytest

from neuronxa_callback.errors import ConfigError
from neuronxa_callback.history.schedule import DEFAULT_INTERVAL, TIMED_STEPS, ProbeSchedule


def included(schedule, steps):
    return [step for step in range(1, steps + 1) if schedule.includes(step)]


def test_every_n_steps():
    schedule = ProbeSchedule(every=4, max_overhead=None)
    for evaluates in (False, True):
        schedule.begin(None, evaluates)
        assert included(schedule, 12) == [4, 8, 12]


def test_the_default_interval_is_only_for_runs_that_never_evaluate():
    schedule = ProbeSchedule(every=None, max_overhead=None)
    assert included(schedule, 1000) == [DEFAULT_INTERVAL, 2 * DEFAULT_INTERVAL]
    schedule.begin(None, evaluates=True)
    assert included(schedule, 1000) == []


@pytest.mark.parametrize(("every", "interval"), [(None, 10), (3, 10), (30, 30)])
def test_the_interval_keeps_within_the_overhead(every, interval):
    seconds = iter(range(1000))
    schedule = ProbeSchedule(every, max_overhead=0.5, clock=lambda: next(seconds))
    schedule.probe_seconds = 5.0
    found = []
    for _ in range(2 * TIMED_STEPS):
        schedule.start_step()
        found.append(schedule.record_step())
    # Once, after the timed steps, each of one tick of the clock.
    assert [(k, each) for k, each in enumerate(found) if each] == [(TIMED_STEPS - 1, 1.0)]
    assert not schedule.includes(interval)
    schedule.interval = schedule.min_interval(1.0)
    assert included(schedule, 2 * interval) == [interval, 2 * interval]
    assert schedule.min_interval(1.0) is None


@pytest.mark.parametrize(
    ("every", "evaluates", "eval_steps", "share"),
    [
        (40, False, None, "; with one every 40 steps, 11.1 % of the time"),
        (40, True, 20, "; with one every 20 steps, 20.0 % of the time"),
        (None, True, 45, "; with one every 45 steps, 10.0 % of the time"),
        (None, True, None, ""),
        (None, False, 20, "; with one every 500 steps, 1.0 % of the time"),
    ],
)
def test_the_share_of_the_time_is_said_where_it_is_known(every, evaluates, eval_steps, share):
    schedule = ProbeSchedule(every, None)
    schedule.begin(None, evaluates, eval_steps)
    schedule.probe_seconds, schedule.sink_seconds = 8.0, 2.0
    assert schedule.describe_overhead(2.0) == (
        f"a probe takes 10.0 s, as long as 5.0 training steps{share}"
        " (lower it with every=, max_overhead=, languages, n_pairs)"
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ((0, None), "every must be an integer of at least 1, got 0"),
        ((None, 1), "max_overhead must be between 0 and 1, got 1"),
    ],
)
def test_bad_options_are_named(options, message):
    with pytest.raises(ConfigError) as error:
        ProbeSchedule(*options)
    assert str(error.value) == message
