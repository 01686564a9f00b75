"""Policies in virtual time: the models are those of a training on the sums, and each is paid for once."""

import json
from dataclasses import replace as changed
from datetime import datetime
from functools import partial
from itertools import pairwise

import numpy as np
import pytest
from scipy import sparse
from typer.testing import CliRunner

from feature_store.features import AsOfFeatures, Events
from feature_store.history import Times
from federation.drift import feature_counts, stability_index
from federation.errors import BadInput
from federation.frequency import FrequencyConfig, Periodic
from federation.observation import Costs
from federation.plan import RoundPlan
from federation.simulate import simulate
from flows.cli import app
from flows.consortium import read_consortium
from flows.replay import policies, windows
from recommenders import item_to_item
from recommenders.choice import choose
from recommenders.interactions import Interactions
from recommenders.metrics import bootstrap_sums, metric_sums, per_query
from recommenders.popularity import windowed_counts
from recommenders.snapshot import Snapshot
from recommenders.two_stage import STORE
from tasks.choosing import chosen
from tasks.model import ModelConfig
from tasks.prepared import store_features
from tasks.rehearsal import Rehearsal, Settings
from tasks.replay import Follower, replay, training_bytes
from tasks.replayed import Replayed

DAY = 86_400_000_000
ITEMS, USERS, DAYS = 40, 30, 60
MODEL = ModelConfig(windows=(30, 90), regularisations=(10.0, 50.0))
SETTINGS = Settings.of(MODEL)
OF_COUNTS, OF_WEIGHTS = SETTINGS.choices["popularity"], SETTINGS.choices["item_to_item"]


def events(seed, first_day=0):
    """A shop that sells ever more items; its users come back."""
    rng = np.random.default_rng(seed)
    times = np.sort(rng.integers(first_day * DAY, DAYS * DAY, 600))
    items = (rng.random(600) * (5 + (ITEMS - 5) * times / (DAYS * DAY))).astype(np.int32)
    return Interactions(rng.integers(0, USERS, 600).astype(np.int32), items, times, USERS, ITEMS)


def rehearsal(seed, first_day=0):
    data = events(seed, first_day)
    clocks = Times(data.times, data.times, np.arange(len(data.times)))
    known = Events(data.users, data.items, clocks, np.full(len(data.times), np.nan), USERS, ITEMS)
    return Rehearsal(data, SETTINGS, AsOfFeatures(known))


@pytest.fixture
def everyone():
    return {name: rehearsal(seed) for seed, name in enumerate(("east", "north", "south"))}


def pipelines(data, until, everyone, now=None):
    """What the pipeline knows: sums over a channel as of `until`, the own events as of `now`, if not then."""
    now = until if now is None else now
    plan = RoundPlan(run="test", number=0, cohort=tuple(everyone))
    before = {name: each.data.where(each.data.times < until) for name, each in everyone.items()}
    form = item_to_item.gram_form(USERS, len(everyone))

    def part(mine, channel):
        counts = channel.sum("counts", windows_of(mine, until).ravel(), form)
        return counts.reshape(2, -1), [*item_to_item.sum_gram(channel, item_to_item.gram_blocks(mine), form)]

    counts, blocks = simulate({name: partial(part, mine) for name, mine in before.items()}, plan)["east"]
    mine = data.where(data.times < until)
    total = item_to_item.assemble(iter(blocks), ITEMS, mine.own_items())
    at_training = own_snapshot(mine, until)
    trained = changed(at_training, total_counts=counts, total_gram=total)
    return own_snapshot(data.where(data.times < now), now).joined(trained.others(), MODEL.windows)


def own_snapshot(mine, until):
    """As if nobody else were there."""
    keep, own = mine.own_items(), windows_of(mine, until)
    gram = item_to_item.own_gram(mine, keep)
    return Snapshot(mine, until, keep, own, own, gram, gram)


def windows_of(mine, until):
    return np.stack([windowed_counts(mine, until, days) for days in MODEL.windows])


def same_models(learned, known):
    """Whether a rehearsal's models are those that a snapshot gives, but for rounding."""
    assert np.array_equal(learned.sold[learned.order], known.own_items)
    assert np.array_equal(learned.popular, known.popular(OF_COUNTS.strength, OF_COUNTS.share))
    every = sparse.csr_array(np.eye(len(known.own_items)))
    found = learned.inverse.scores(every)[np.ix_(learned.order, learned.order)]
    np.fill_diagonal(found, 0)
    weights = known.weights(OF_WEIGHTS.share, OF_WEIGHTS.strength)
    assert found == pytest.approx(weights, rel=1e-4, abs=1e-6)


def test_models_kept_up_to_date_are_those_of_a_training_on_the_sums(everyone):
    moments = [0, *(day * DAY for day in (10, 11, 30, 31, 60))]
    for before, until in pairwise(moments):
        recent = sum(windows_of(each.data, until) for each in everyone.values())
        for each in everyone.values():
            learned = each.learn((before, until), recent, [*everyone.values()])
            same_models(learned, pipelines(each.data, until, everyone))


def test_between_trainings_the_own_is_fresh_and_the_others_is_of_the_training(everyone):
    """Refreshed step by step, as of 20, 21 and 40 days, against the pipeline's snapshot solved anew."""
    recent = sum(windows_of(each.data, 15 * DAY) for each in everyone.values())
    for each in everyone.values():
        learned = each.learn((0, 15 * DAY), recent, [*everyone.values()])
        for before, now in pairwise(day * DAY for day in (15, 20, 21, 40)):
            learned = each.refresh(learned, (before, now))
            same_models(learned, pipelines(each.data, 15 * DAY, everyone, now))
        assert len(learned.sold) > len(each.data.where(each.data.times < 15 * DAY).own_items())


def test_a_window_is_judged_as_the_pipeline_judges_a_part(everyone):
    """Metric sums over the channel against lists made from a solved snapshot, user by user, at two ages."""
    moments = [day * DAY for day in (36, 40, 44)]
    first, second = replay(everyone, moments, [follower(99, 4)], 0, USERS)
    for verdict, step, trained in ((first, 0, 0), (second, 1, 0), (second, 1, 1)):
        window, total = (moments[step], moments[step + 1]), np.zeros(8)
        for each in everyone.values():
            known = pipelines(each.data, moments[trained], everyone, window[0])
            queries = each.queries(window)
            total += metric_sums(known.lists(OF_WEIGHTS, queries, 10), queries)
        assert verdict.queries == total[-1]
        assert verdict.judged[trained].metrics[0] == pytest.approx(total[0] / total[-1], abs=1e-9)


def test_drift_of_features_is_from_the_window_before_the_training(everyone):
    """Against the index of pooled rows, each asked of the store as of its window's beginning."""
    moments = [day * DAY for day in (36, 40, 44, 48)]
    for step, verdict in enumerate(replay(everyone, moments, [follower(99, 4)], 0, USERS)):
        then, now = (
            sum(
                feature_counts(store_features(each.features, STORE, new.users, new.items, begin))
                for each in everyone.values()
                for new in [each.data.where((each.data.times >= begin) & (each.data.times < begin + 4 * DAY))]
            )
            for begin in (32 * DAY, moments[step])
        )
        found = verdict.judged[0].drift
        indices = [stability_index(*pair) for pair in zip(then, now, strict=True)]
        assert [found[f"feature_drift/{name}"] for name in STORE] == indices
        assert found["largest_feature_drift"] == max(indices)


def follower(days, step=2):
    return Follower(f"every {days}", FrequencyConfig(policy=Periodic(days=days)), step * 86_400)


def test_policies_that_train_at_the_same_time_have_the_same_models(everyone):
    """A fixed interval of two steps lives as the oracle does wherever it has just trained."""
    moments = [day * DAY for day in range(20, 60, 2)]
    always, seldom = follower(2), follower(4)
    assert len([*replay(everyone, moments, [always, seldom], 0, USERS)]) == 19
    trained = np.array([spent[0] for spent in seldom.spent])
    assert trained.tolist() == [step % 2 == 0 for step in range(19)]
    assert all(spent[0] for spent in always.spent)
    own, oracle = np.array(seldom.metrics), np.array(always.metrics)
    assert np.array_equal(own[trained], oracle[trained])
    assert not np.array_equal(own, oracle)
    triangle, windows = ITEMS * (ITEMS + 1) // 2, len(MODEL.windows)
    twice, ways = 2, 2
    assert training_bytes(everyone, USERS) == twice * ways * 3 * (8 * ITEMS * windows + 2 * triangle)
    assert sum(spent[2] for spent in always.spent) == 19 * training_bytes(everyone, USERS)
    gains = [seen.gain for seen in seldom.history]
    assert [gain is not None for gain in gains] == [bool(step) and step % 2 == 0 for step in range(19)]


def test_the_interval_of_what_is_kept_is_that_of_paired_queries():
    """Against the closed form, over two windows of 200 and 300 queries."""
    rng, always, other = np.random.default_rng(0), follower(2), follower(4)
    values = [rng.normal((0.5, 0.4), 0.2, (queries, 2)) for queries in (200, 300)]
    found = Replayed([always, other], [0, DAY, 2 * DAY], 10, Costs(), [200, 300])
    for window in values:
        draws = bootstrap_sums(window, rng, 4000)
        for place, each in enumerate((always, other)):
            each.drawn.append(draws[:, [place, -1]])
            each.metrics.append((window[:, place].mean(),))
    every = np.concatenate(values)
    error = np.diff(every, axis=1).std() / 500**0.5 / every[:, 0].mean()
    assert found.half_interval(other, always) == pytest.approx(1.96 * error, rel=0.05)
    assert found.half_interval(always, always) == 0


def test_policies_that_adjust_themselves_begin_at_the_middle_of_their_bounds(tiny):
    found = {each.name: each.interval / 86_400 for each in policies(read_consortium(tiny("small")), 2.0)}
    assert found == {f"every {days} d": 2 for days in (2, 4, 6, 8, 12, 16, 32)} | dict.fromkeys(
        ("plateau", "drift", "bandit"), 8
    )


def test_a_participant_that_begins_late_takes_part_from_then_on():
    everyone = {
        name: rehearsal(seed, first_day)
        for seed, (name, first_day) in enumerate((("east", 0), ("north", 0), ("south", 40)))
    }
    verdicts = [*replay(everyone, [day * DAY for day in range(20, 60, 5)], [follower(5, 5)], 0, USERS)]
    assert all(verdict.queries for verdict in verdicts)


def test_the_command_writes_table_figures_plot_and_run(tmp_path, tiny):
    from mlflow import MlflowClient

    path, plot, figures = tiny("small"), tmp_path / "replay.png", tmp_path / "replay.json"
    arguments = ["replay", path, "--step", "8", "--json", figures, "--plot", plot]
    done = CliRunner().invoke(app, [str(each) for each in arguments], catch_exceptions=False)
    assert done.exit_code == 0
    found = json.loads(figures.read_text())
    assert found["always"] == "every 8 d"
    assert found["best_dynamic"] in ("plateau", "drift", "bandit")
    always = found["policies"]["every 8 d"]
    assert always["regret"] == 0
    assert always["kept"] == 1
    for told in found["policies"].values():
        assert {"ndcg_at_10", "trainings", "bytes", "seconds", "regret"} <= told.keys()
        assert 0 < told["trainings"] <= always["trainings"]
        assert told["bytes"] == always["bytes"] / always["trainings"] * told["trainings"]
    assert plot.read_bytes().startswith(b"\x89PNG")
    client = MlflowClient(f"sqlite:///{tmp_path}/state/small/mlflow/mlflow.db")
    (run,) = client.search_runs([client.get_experiment_by_name("chorus").experiment_id])
    assert run.data.metrics["plateau/ndcg_at_10"] == found["policies"]["plateau"]["ndcg_at_10"]
    assert run.data.tags["chorus.kind"] == "replay"
    assert {each.path for each in client.list_artifacts(run.info.run_id)} == {"replay.json", "replay.png"}


def test_a_configured_policy_is_the_one_that_is_replayed(tiny):
    more = "frequency: {policy: {kind: plateau, shortest_days: 3, longest_days: 9}, costs: {training: 0.1}}"
    found = {each.name: each for each in policies(read_consortium(tiny("small", more)), 2.0)}
    assert found["plateau"].config.policy.longest_days == 9
    assert found["drift"].config.policy.longest_days == 32
    assert found["every 4 d"].config.policy.days == 4
    assert {each.config.costs.training for each in found.values()} == {0.1}


@pytest.mark.parametrize("kind", ["item_to_item", "popularity"])
def test_what_is_chosen_is_what_the_pipeline_chooses(everyone, kind):
    """The best mean over all queries, of popularity in each window, of item-to-item in each half."""
    moments = [day * DAY for day in (30, 34, 38, 42, 46)]
    steps = 1 if kind == "popularity" else 2
    strengths = range(2) if kind == "popularity" else MODEL.regularisations
    for name, each in chosen(everyone, MODEL, moments, 0).items():
        asked = [(pipelines(each.data, begin, everyone), each.queries((begin, end)))
                 for begin, end in pairwise(moments[::steps])]  # fmt: skip

        def quality(choice, asked=asked):
            lists = ((known.lists(choice, queries, 10), queries) for known, queries in asked)
            return np.concatenate([per_query(*told)[:, 0] for told in lists])

        assert each.settings.choices[kind] == choose(quality, kind, MODEL.shares, strengths), name


def test_who_has_nobody_to_ask_keeps_the_middle_of_the_grids(everyone):
    everyone["south"] = rehearsal(2, first_day=50)
    found = chosen(everyone, MODEL, [day * DAY for day in (30, 34, 38)], 0)
    assert found["south"].settings == SETTINGS
    assert found["east"].settings != SETTINGS


def test_bad_input_is_told(tiny, everyone):
    with pytest.raises(BadInput, match="0 whole windows"):
        windows(everyone, 100.0, None, None)
    with pytest.raises(BadInput, match=r"--step 0.01: found .* between .*, expected 2 to 10,000"):
        windows(everyone, 0.01, None, datetime(2000, 1, 1))
    path = tiny("small", "split: {kind: leave-last-out}")
    path.write_text(path.read_text().replace("time: time", "time: null", 1))
    with pytest.raises(BadInput, match=r"east: events.columns.time: found none"):
        CliRunner().invoke(app, ["replay", str(path)], catch_exceptions=False)


def test_a_history_in_which_nobody_had_what_is_listed_is_told(tmp_path):
    days = (f"u{day % 2},i{day},2020-01-{day + 1:02}" for day in range(30))  # each item once
    (tmp_path / "events.csv").write_text("\n".join(["user,item,time", *days]))
    source = "events: {path: events.csv, columns: {user: user, item: item, time: time}}"
    shops = "".join(f"  - {{name: {name}, {source}}}\n" for name in "abc")
    path = tmp_path / "new.yaml"
    path.write_text(f"name: new\nstate: {tmp_path}\nmodel: {{kind: popularity}}\nparticipants:\n{shops}")
    with pytest.raises(BadInput, match=r"found nobody between 2020-01-06 and 2020-01-27 who had what"):
        CliRunner().invoke(app, ["replay", str(path)], catch_exceptions=False)
