"""The gate, and the sums that it judges by, against the same figures of pooled queries."""

from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from federation.errors import Refused
from federation.gate import Compared, GateConfig, judge, worse_off
from federation.plan import RoundPlan
from federation.policy import RoundPolicy
from federation.simulate import simulate
from recommenders.metrics import Queries, bootstrap_errors, bootstrap_sums, per_query
from tasks.comparison import add, champion_figures, compare, describe, secret

NAMES = ("east", "north", "south")
ITEMS, TOP = 20, 5
TRAINED = np.arange(ITEMS)


def compared(**told):
    return Compared(**{"champion": "old", "participants": 3, "gain": 0.02, "gain_error": 0.01, **told})


@pytest.mark.parametrize(
    ("told", "config", "promotes", "says"),
    [
        ({}, {}, True, "Better than run old: the gain is +0.0200"),
        ({"gain": 0.01}, {}, False, "beyond 1 times that"),
        ({"gain": 0.0, "gain_error": 0.0}, {}, False, "The champion stays, that of run old"),
        ({"gain": 0.02}, {"least_gain": 2.5}, False, "beyond 2.5 times that"),
        ({"gain": float("nan")}, {}, False, "nan"),
        ({"worse": 2, "named": ("north",)}, {}, False, "2 would be worse off than they tolerate (north)"),
        ({"participants": 2}, {}, False, "only 2 have both models, expected 3"),
        ({"participants": 4}, {"fewest": 5}, False, "only 4 have both models, expected 5"),
        ({"participants": 2}, {"fewest": 1}, False, "only 2 have both models, expected 3"),
        ({"participants": 0, "gain": None}, {}, True, "No participant has the champion of run old"),
    ],
)
def test_the_gate_says_yes_or_why_not(told, config, promotes, says):
    found = judge(GateConfig(**config), 3, compared(**told))
    assert found.promote is promotes
    assert says in found.reason


def test_the_first_training_promotes():
    assert judge(GateConfig(), 3, None).promote


def test_with_approval_what_passes_waits_for_a_person():
    found = judge(GateConfig(approval=True), 3, compared())
    assert (found.promote, found.waits) == (False, True)
    found = judge(GateConfig(approval=True), 3, compared(gain=-1.0))
    assert (found.promote, found.waits) == (False, False)
    assert judge(GateConfig(approval=True), 3, None).promote
    unmeasured = judge(GateConfig(approval=True), 3, compared(participants=0))
    assert (unmeasured.promote, unmeasured.waits) == (False, True)


@given(st.floats(-1, 1), st.floats(0, 1), st.floats(0, 5))
def test_more_gain_never_closes_the_gate(gain, error, least):
    config = GateConfig(least_gain=least)
    less, more = (
        judge(config, 3, compared(gain=each, gain_error=error)).promote for each in (gain, gain + 0.1)
    )
    assert more >= less
    assert judge(config, 3, compared(gain=gain, gain_error=error)).promote == (gain > least * error)


def test_a_loss_counts_beyond_tolerance_and_beyond_chance():
    config = GateConfig(tolerance=0.1, tolerance_errors=2)
    assert not worse_off(config, 0.5, -0.05, 0.0)
    assert worse_off(config, 0.5, -0.051, 0.0)
    assert not worse_off(config, 0.5, -0.09, 0.02)
    assert worse_off(config, 0.5, -0.0901, 0.02)
    assert not worse_off(config, 0.5, 0.3, 0.0)


def asked(r, many):
    """So many queries, each with one or two relevant items."""
    sizes = r.integers(1, 3, many)
    relevant = np.concatenate([np.sort(r.choice(ITEMS, size, replace=False)) for size in sizes])
    starts = np.concatenate([[0], np.cumsum(sizes)])
    nothing = np.zeros(0, np.int32)
    return Queries(
        np.arange(many, dtype=np.int32), np.zeros(many + 1, np.int64), nothing, starts,
        relevant.astype(np.int32),
    )  # fmt: skip


def lists(r, many):
    return np.stack([r.permutation(ITEMS)[:TOP] for _ in range(many)]).astype(np.int32)


def participants(r, holding=NAMES, tolerance=0.05):
    made = {}
    for name, many in zip(NAMES, (40, 60, 25), strict=True):
        queries, items = asked(r, many), r.integers(0, ITEMS, 2 * many).astype(np.int32)
        gate = GateConfig(tolerance=tolerance)
        told = {"seed": 0, "gate": gate, "rounds": RoundPolicy(), "model": SimpleNamespace(top=TOP)}
        room = SimpleNamespace(name=name, membership=SimpleNamespace(**told))
        prepared = SimpleNamespace(
            queries=lambda part, queries=queries: queries,
            data=SimpleNamespace(items=items, times=np.arange(2 * many)),
            part=np.repeat([1, 2], many),
            moments=(),
        )
        ours, theirs = lists(r, many), lists(r, many) if name in holding else None
        made[name] = room, prepared, queries, ours, theirs
    return made


def told_by(made, minimum=3):
    """What all of the cohort return, and every sum that was opened."""
    parts = {
        name: lambda channel, p=(room, prepared, ours, theirs): add(
            channel, compare(p[0], p[1], 2, p[2], p[3]), (TRAINED, TRAINED), minimum, TOP
        )
        for name, (room, prepared, _, ours, theirs) in made.items()
    }
    return told_together(parts, opened := {}), opened


def told_together(parts, opened):
    plan = RoundPlan(run="r", number=1, cohort=tuple(parts))
    told = simulate(parts, plan, on_opened=lambda name, form, total: opened.update({name: total}))
    assert told["east"] == told["north"] == told["south"]
    return told["east"]


def figures_of_the_champion(made, opened):
    """As an evaluation tells them, in a window without a training."""
    parts = {
        name: lambda channel, p=(room, prepared, theirs): champion_figures(
            p[0], p[1], 2, p[2], (TRAINED, TRAINED), describe(p[1], 1), channel
        )
        for name, (room, prepared, _, _, theirs) in made.items()
    }
    return told_together(parts, opened)


def test_gain_and_errors_are_those_of_pooled_queries():
    made = participants(np.random.default_rng(7))
    told, _ = told_by(made)
    pairs = [
        np.column_stack([per_query(ours, queries)[:, 0], per_query(theirs, queries)[:, 0]])
        for _, _, queries, ours, theirs in made.values()
    ]
    values = np.concatenate(pairs)
    assert told["gain"] == pytest.approx(np.diff(values[:, ::-1].mean(axis=0))[0], abs=1e-8)
    errors = bootstrap_errors(bootstrap_sums(values, np.random.default_rng(1), 4000))
    assert told["ndcg_at_5_error"] == pytest.approx(errors[0][0], rel=0.2)
    assert told["gain_error"] == pytest.approx(errors[1][1], rel=0.2)
    closed = values[:, 0].std() / np.sqrt(len(values))
    assert told["ndcg_at_5_error"] == pytest.approx(closed, rel=0.2)
    assert told["compared"] == 3
    assert told["unseen"] == pytest.approx(
        np.mean(np.concatenate([each[1].data.items[each[1].part == 2] for each in made.values()]) == 0)
    )


def test_equal_models_gain_nothing_and_nobody_is_worse_off():
    made = participants(np.random.default_rng(3))
    told, _ = told_by({name: (*each[:4], each[3]) for name, each in made.items()})
    assert (told["gain"], told["gain_error"], told["worse"]) == (0.0, 0.0, 0)


def test_a_much_better_champion_is_missed_by_all():
    made = participants(np.random.default_rng(3))
    best = {}
    for name, (room, prepared, queries, ours, theirs) in made.items():
        theirs = theirs.copy()
        theirs[:, 0] = queries.relevant_items[queries.relevant_starts[:-1]]
        best[name] = room, prepared, queries, ours, theirs
    assert told_by(best)[0]["worse"] == 3


def test_who_guesses_the_figures_of_queries_cannot_repeat_their_draws():
    """Else others would know of a few queries, whose figures are soon guessed, that the guess is right."""
    room, mine, *_ = participants(np.random.default_rng(3))["east"]
    guessed = SimpleNamespace(data=SimpleNamespace(items=mine.data.items[:-1], times=mine.data.times[:-1]))
    draws = [secret(room, each, np.zeros((3, 1))).random() for each in (mine, mine, guessed)]
    assert draws[0] == draws[1] != draws[2]


@pytest.mark.parametrize(("many", "objects"), [(1, 0), (9, 0), (10, 1)])
def test_who_has_next_to_no_queries_does_not_object(many, objects):
    room, prepared, *_ = participants(np.random.default_rng(3))["east"]
    asked = Queries(
        np.arange(many, dtype=np.int32), np.zeros(many + 1, np.int64), np.zeros(0, np.int32),
        np.arange(many + 1), np.full(many, 5, np.int32),
    )  # fmt: skip
    prepared.queries = lambda part: asked
    champion = np.tile(np.array([[5, 1, 2]], np.int32), (many, 1))
    assert compare(room, prepared, 2, champion[:, [1, 0, 2]], champion).flags.tolist() == [1, objects]


def test_the_champion_of_few_is_not_opened():
    told, opened = told_by(participants(np.random.default_rng(5), holding=("east", "north")))
    assert told["compared"] == 2
    assert not {"gain", "gain_error", "worse"} & told.keys()
    assert {name for name in opened if name.startswith("champion")} == {"champion/held"}


def test_an_evaluation_tells_the_champion_s_figures_of_pooled_queries():
    made = participants(np.random.default_rng(5))
    told = figures_of_the_champion(made, {})
    values = np.concatenate([per_query(theirs, queries) for _, _, queries, _, theirs in made.values()])
    assert told["queries"] == len(values) == 125
    assert told["ndcg_at_5"] == pytest.approx(values[:, 0].mean(), abs=1e-8)
    assert told["ndcg_at_5_error"] == pytest.approx(values[:, 0].std() / np.sqrt(len(values)), rel=0.2)
    items = np.concatenate([prepared.data.items[prepared.part == 2] for _, prepared, *_ in made.values()])
    assert told["unseen"] == pytest.approx(np.mean(items == 0))


def test_an_evaluation_does_not_open_the_champion_of_few():
    made, opened = participants(np.random.default_rng(5), holding=("east", "north")), {}
    with pytest.raises(Refused, match="only 2 participants have the champion, expected 3"):
        figures_of_the_champion(made, opened)
    assert opened.keys() == {"held"}


def test_who_lacks_the_champion_counts_as_no_gain():
    made = participants(np.random.default_rng(5), holding=("east", "north"))
    told, opened = told_by(made, minimum=2)
    gained = sum(
        (per_query(ours, queries)[:, 0] - per_query(theirs, queries)[:, 0]).sum()
        for _, _, queries, ours, theirs in made.values()
        if theirs is not None
    )
    assert told["gain"] == pytest.approx(gained / 125, abs=1e-8)
    assert "champion/ndcg" in opened
