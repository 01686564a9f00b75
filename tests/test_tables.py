"""What the tables show is what there is: nothing in it is taken for markup, and names stay whole."""

import numpy as np
import pytest

from flows import tables
from flows.consortium import read_consortium
from flows.scheduled import ended
from recommenders.metrics import metrics

RUN = "scheduled-90e2aaaf7bfd"


@pytest.fixture
def shown(monkeypatch, capsys):
    """The lines that a table prints on a terminal of 80 columns."""
    monkeypatch.setattr(tables.console, "width", 80)

    def shown(show, *told):
        show(*told, None)
        return capsys.readouterr().out.splitlines()

    return shown


def test_ids_are_printed_as_they_are(shown):
    ids = ["[new] shirt", "shoes [/sale]", "[bold]", ":heart:", "[b", "back\\[x]"]
    lines = shown(tables.show_list, {"items": ids, "scores": [0.5] * len(ids)})
    assert [" ".join(line.split()[1:-1]) for line in lines if line.endswith("0.5000  ")] == ids


def test_a_list_of_nothing_says_so(shown):
    assert shown(tables.show_list, {"items": [], "scores": []}) == [
        "Nothing to recommend: all that could be listed was had."
    ]


def test_names_and_times_of_runs_are_whole(shown):
    facts = {"run": RUN, "created_at": "2026-11-28T09:46:13+00:00", "status": "finished", "model_version": 12}
    facts |= {"figures": {"overall": {"consortium": {"ndcg_at_10": 0.1734}}}}
    told = shown(tables.show_runs, [facts], None)
    row = [RUN, "2026-11-28", "09:46", "finished", "0.1734", "12"]
    assert told[-1].split() == row
    judged = {**facts["figures"], "gate": {"promote": False}}
    reason = "its process ended without a word"
    told = shown(tables.show_runs, [{**facts, "figures": judged, "reason": reason}], None)
    assert told[-2].split() == [*row, "no"]
    assert told[-1] == f"{RUN}: {reason}"
    asks = {**judged, "gate": {"promote": False, "waits": True}}
    told = shown(tables.show_runs, [{**facts, "figures": asks}], None)
    assert told[-1].split() == [*row, "waits"]
    told = shown(tables.show_runs, [{**facts, "figures": judged}], RUN)
    assert told[-1].split() == [*row, "champion"]  # since a person promoted it


def test_a_command_to_type_is_on_one_line(shown, tiny):
    path = tiny("a-name-that-is-longer-than-a-line-of-a-narrow-terminal-has-room-for")
    told = shown(lambda *_: tables.show_next(path))
    assert [line.endswith(str(path)) for line in told[1:]] == [True, True]


def test_a_reason_with_brackets_is_printed_as_it_is(shown):
    told = shown(tables.show_runs, [{"run": RUN, "reason": "found [a]"}], None)
    assert any("found [a]" in line for line in told)


def test_who_has_nobody_to_ask_about_has_no_figures_and_is_named(shown, tiny):
    asked = {"ndcg_at_10": 0.2, "hit_rate_at_10": 0.5, "queries": 4.0}
    told = {"rows": 7, "users": 3, "consortium": asked, "alone": asked}
    nobody = {**told, "consortium": metrics(np.zeros(8), 10), "alone": metrics(np.zeros(8), 10)}
    figures = {"run": RUN, "overall": {"alone": asked, "consortium": asked}, "lost": {}}
    figures |= {"participants": {"north": told, "tiny": nobody, "west": {**told, "consortium": None}}}
    lines = shown(lambda *figures: tables.show_figures(figures[0], read_consortium(tiny("t")), None), figures)
    assert [line.split() for line in lines if line.startswith(" tiny")] == [["tiny", "7", "3"]] * 2
    assert "no figures of tiny: no user to ask about in the test part" in lines


def test_a_long_name_is_folded_and_leaves_the_figures_whole(shown, tiny):
    arms = {arm: {"ndcg_at_10": 0.2, "hit_rate_at_10": 0.5} for arm in tables.ARMS}
    told = {"rows": 1234567, "users": 34567, **arms}
    figures = {"run": RUN, "overall": arms, "lost": {}, "participants": {"long" * 15: told}}
    lines = shown(lambda *told: tables.show_figures(told[0], read_consortium(tiny("t")), None), figures)
    assert not any("…" in line for line in lines)
    assert "".join(lines).count("1,234,567") == 2
    flow, long = "evaluate-champion", "every 24h, from 2026-01-01 00:00 UTC"
    told = dict.fromkeys(("configured", "decided", "pinned", "pinned_by", "prefect"), long)
    lines = shown(lambda *told: tables.show_schedule(told[0], True, None), {flow: {**told, "paused": False}})
    assert any(line.startswith(f"  {flow} ") for line in lines)


def test_who_was_exposed_is_told_at_the_end_though_it_came_back(shown, tiny):
    overall = {arm: {"ndcg_at_10": 0.2, "hit_rate_at_10": 0.5} for arm in ("alone", "consortium")}
    figures = {"run": RUN, "overall": overall, "participants": {}, "lost": {}, "exposed": ["west"]}
    state = ended({**figures, "model_version": 2, "gate": {"reason": "It is better."}})
    assert state.name == "Degraded"
    assert state.message.endswith("Lost between two sums: west; these terms can be inferred")
    lines = shown(lambda *told: tables.show_figures(told[0], read_consortium(tiny("t")), None), figures)
    assert "west was lost between two sums: its terms can be inferred" in lines
