"""What a person sees in a terminal: rows, progress bars, the end table."""

from types import SimpleNamespace

import pytest

from neuronxa_callback.history.history import History
from neuronxa_callback.show import probe_line, terminal
from neuronxa_callback.show.probe_screen import ProbeScreen
from tests.helpers.output.screen import screen_of
from tests.helpers.reports import make_report

TRAIN = """
import sys
from neuronxa_callback import NeuronXACallback, ProbeConfig
from tests.helpers.runs import tokenizer_for, trainer_of
from tests.helpers.tiny import parallel
corpus = parallel(10)
callback = NeuronXACallback(ProbeConfig(corpus=corpus, n_pairs=10), every=2)
trainer_of(tokenizer_for(corpus), sys.argv[1], [callback], args={"disable_tqdm": False}).train()
"""


def test_a_run_in_a_terminal_is_readable(tmp_path):
    screen, written = screen_of(TRAIN, tmp_path, columns=80)
    ours = [k for k, row in enumerate(screen.rows) if row.startswith("NeuronXA")]
    starts = [screen.rows[k].split(":")[0] for k in ours]
    assert [s for s in starts if "step" in s] == [f"NeuronXA step {k}" for k in (0, 2, 4, 6)]
    assert screen.rows[ours[starts.index("NeuronXA step 0") - 2]].startswith(
        "NeuronXA: probing 2 languages x 10 pairs before the first step ..."
    )
    shown = " ".join(screen.rows)
    assert "the first probe took" in shown
    assert "no tracker is on" in shown
    assert "neuronxa page" in shown
    rest = [k for k in range(len(screen.rows)) if k in screen.wrapped]
    assert not {*rest} & {k + 1 for k in ours}
    table = screen.rows.index("Alignment with eng_Latn at step 6")
    assert screen.rows[table + 2].split()[:2] == ["language", "nasca"]
    # The bar of the Trainer was there, and none of the table's rows has a part of it.
    assert "6/6" in written
    assert not any("6/6" in row for row in screen.rows[table : table + 6])


TABLE = """
import sys
from tqdm.auto import tqdm
from neuronxa_callback.show import tables, terminal
from tests.helpers.reports import make_report
bar = tqdm(total=3, desc="training", mininterval=0)
bar.update(1)
terminal.show(tables.one_report(make_report(6)))
terminal.show_text("a note")
bar.update(1)
bar.close()
"""


def test_a_table_begins_on_a_line_of_its_own_while_a_bar_runs():
    screen, written = screen_of(TABLE)
    assert "training:  33%" in written
    assert screen.rows[0] == "Alignment with eng_Latn at step 6"
    assert "a note" in screen.rows
    assert screen.rows[screen.rows.index("a note") + 1].startswith("training:  67%")


LINE = """
from neuronxa_callback.history.history import History
from neuronxa_callback.show import probe_line, terminal
from tests.helpers.reports import make_report
history = History()
for step in range(3):
    names = [f"lan{k:02}_Latn" for k in range(25)]
    report = make_report(step, {name: 0.01 * k + 0.1 * step for k, name in enumerate(names)})
    history.append(report)
terminal.say(probe_line.line(report, history))
terminal.say("x" * 300)
"""


@pytest.mark.parametrize("columns", [40, 80, 100, 120])
def test_a_line_is_broken_at_separators_and_fits_the_terminal(columns):
    screen, _ = screen_of(LINE, columns=columns)
    assert screen.wrapped == set()
    assert all(len(row) <= columns for row in screen.rows)
    cut = next(k for k, row in enumerate(screen.rows) if "xx" in row)
    text = [row for row in screen.rows[:cut] if row]
    assert len(text) > 1
    assert all(row.startswith("  ") and row[2] != " " for row in text[1:])
    history = History()
    for step in range(3):
        names = [f"lan{k:02}_Latn" for k in range(25)]
        report = make_report(step, {name: 0.01 * k + 0.1 * step for k, name in enumerate(names)})
        history.append(report)
    whole = probe_line.line(report, history)
    assert "".join(" ".join(map(str.strip, text)).replace(" ·", "").split()) == "".join(
        whole.replace(" ·", "").split()
    )
    assert "".join(row.strip() for row in screen.rows[cut:]) == "x" * 300


def test_a_pipe_gets_one_line(capsys):
    terminal.say("a · b; c, d " * 40)
    assert capsys.readouterr().out.count("\n") == 1


def changes_of(*scores):
    history = History()
    for step, each in enumerate(scores):
        history.append(make_report(step, each))
    return probe_line.language_changes(history, "nasca")


def test_languages_without_a_change_are_summed_up():
    before = {f"l{k:02}": 0.3 for k in range(25)}
    assert changes_of(before) == ""
    assert changes_of(before, before) == "since the last: 25 unchanged"
    risen = changes_of(before, {**before, "l03": 0.7, "l07": 0.1})
    assert risen == "since the last: l03 +0.400, l07 -0.200, 23 unchanged"
    unknown = changes_of(before, {**before, "l03": 0.7, "l07": float("nan")})
    assert unknown == "since the last: l03 +0.400, 23 unchanged, 1 unknown"
    many = {name: 0.9 - 0.01 * k if k < 5 else 0.3 for k, name in enumerate(before)}
    assert changes_of(before, many) == (
        "since the last: l00 +0.600, l01 +0.590, l02 +0.580, 2 more changed, 20 unchanged"
    )


BAR = """
import sys
from types import SimpleNamespace
from neuronxa_callback.show.probe_screen import ProbeScreen
probe = SimpleNamespace(
    corpus=SimpleNamespace(languages=("a", "b")), config=SimpleNamespace(n_pairs=7)
)
delay, shown, has_bar = float(sys.argv[1]), sys.argv[2] == "1", sys.argv[3] == "1"
with ProbeScreen(shown, has_bar, delay).watch(probe) as move:
    for done in range(1, 5):
        if move is not None:
            move(done, 4)
"""


@pytest.mark.parametrize(
    ("delay", "shown", "has_bar", "bar", "line"),
    [(0, 1, 1, True, True), (999, 1, 1, False, True), (0, 1, 0, False, True),
     (0, 0, 1, False, False)],
)  # fmt: skip
def test_a_long_probe_has_a_bar_on_rank_0(delay, shown, has_bar, bar, line):
    screen, written = screen_of(BAR, delay, shown, has_bar)
    assert ("NeuronXA probe" in written) == bar
    assert ("probing 2 languages x 7 pairs before the first step ..." in written) == line
    # It is gone at the end.
    assert not any("NeuronXA probe" in row and "%" in row for row in screen.rows)


def test_a_file_gets_no_bar(capsys):
    screen = ProbeScreen(shown=True, has_bar=True, delay=0, is_first=False)
    with screen.watch(SimpleNamespace()) as move:
        assert move is None
    assert capsys.readouterr().err == ""
