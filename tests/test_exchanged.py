"""A participant's part in sums of changes: what it has heard, and what it says, which is one change a sum."""

from types import SimpleNamespace

import numpy as np
import pytest

from feature_store.catalogue import write_catalogue
from feature_store.world import generate
from federation.errors import BadInput, Refused
from flows.consortium import read_consortium
from recommenders import sequence
from tasks.exchanged import bound_to
from tasks.room import Room
from tasks.sequences import Learner


@pytest.fixture
def learner(tiny, tmp_path):
    """A participant that trains a transformer, of a run whose sums are zeros and ones."""
    path = tiny("tiny")
    path.write_text(path.read_text().replace("kind: item_to_item", "kind: sequence, sequence: {width: 8}"))
    consortium = read_consortium(path)
    generate(consortium.world, consortium.data, consortium.names)
    east = consortium.memberships[0]
    room = Room(tmp_path / "east", east)
    version = room.import_all().version
    write_catalogue(east.catalogue, room.item_ids())
    prepared, items = room.prepared(version, ("2024-05-01", "2024-06-01")), len(room.item_ids())
    first = sequence.initial(items, east.model.sequence, east.seed)
    opened = {
        "0/popularity/1": np.zeros(len(east.model.windows) * items, np.int64),
        "0/weights/1": np.ones(items + 1),
        "0/sequence/0": np.ones(first.dense.size + first.table.size),
    }
    channel = SimpleNamespace(read=opened.__getitem__, sum=lambda name, term, form: term)
    return Learner(room, prepared, "r", 0, channel)


def test_a_sum_that_was_repeated_without_a_participant_is_read_anew(learner):
    """Of the attempt that it was in it has heard another, by which it has another network than the rest."""
    exchanged, first = learner.exchanged, learner.exchanged.network(0)
    size, weights = first.dense.size + first.table.size, np.ones(len(first.table) + 1)

    def heard(total):
        return SimpleNamespace(read=lambda name: weights if "weights" in name else total)

    exchanged._channel = heard(np.ones(size))
    assert exchanged.network(1).digest() != first.digest()
    exchanged._channel = heard(np.zeros(size))
    with pytest.raises(Refused, match="east: read another network than all were told of"):
        exchanged.require(1, {"1": first.digest()})
    exchanged.require(1, {"1": first.digest()})


def test_another_network_than_all_were_told_of_is_refused(learner):
    """If all others began with one that has no gradient, the sum would be this participant's term."""
    first = learner.exchanged.network(0)
    told = {"0": first.digest(), "1": first.digest()}
    learner.exchanged.require(0, told)
    for sums, networks in ((1, told), (0, {"0": ""}), (0, {})):
        with pytest.raises(Refused, match="east: read another network than all were told of"):
            learner.look(sums, networks)
    learner.exchanged.keep(first.of(learner.items), 1, {"cuts": []})
    with pytest.raises(Refused, match="east: read another network than all were told of"):
        learner.exchanged.add(1, told, {"cuts": []}, learner.items, np.ones(len(learner.items) + 1))
    with pytest.raises(Refused, match="east: was told something else for learn than for average"):
        learner.exchanged.add(1, told, {"cuts": ["2024-01-01"]}, learner.items, np.ones(1))


def test_a_sum_has_the_rows_that_are_learned_and_no_others(learner):
    """Half of the items here; the rows of the participant's other items are neither trained nor said."""
    exchanged, whole = learner.exchanged, learner.exchanged.network(0)
    config = exchanged._config.exchange.model_copy(update={"keep": 0.5})
    exchanged._config = exchanged._config.model_copy(update={"exchange": config})
    learned, first = exchanged.learned, exchanged.network(0)
    assert len(learned) == -(-len(whole.table) // 2)
    assert np.flatnonzero(first.table.any(axis=1)).tolist() == learned.tolist()
    own, said = np.intersect1d(learned, learner.items), {}
    exchanged._channel = SimpleNamespace(sum=lambda name, term, form: said.setdefault(name, term))
    exchanged.keep(first.of(own), 0, {"cuts": []})
    exchanged.add(0, {"0": first.digest()}, {"cuts": []}, own, np.ones(len(own) + 1))
    term = said["sequence/0"]
    assert len(term) == first.dense.size + len(learned) * 8
    rows = term[first.dense.size :].reshape(-1, 8)
    assert rows[np.isin(learned, own)] == pytest.approx(first.of(own).table, abs=2**-13)
    assert not rows[~np.isin(learned, own)].any()


def test_by_contribution_rows_weigh_by_events_and_one_number_is_said(learner):
    """Weights of items, opened with other factors each time, could be factored into everybody's counts."""
    exchanged, said = learner.exchanged, []
    config = exchanged._config.exchange.model_copy(update={"weighting": "contribution"})
    exchanged._config = exchanged._config.model_copy(update={"exchange": config})

    def opened(name, term, form):
        said.append(term)
        return 4 * term

    totals = np.full(len(exchanged.network(0).table) + 1, 8.0)
    exchanged._channel = SimpleNamespace(read=lambda name: totals, sum=opened)
    own = np.arange(len(totals))
    found = exchanged.shares(own, 0)
    assert found[:-1].tolist() == (own[:-1] / 8).tolist()
    assert found[-1] == 1 / 4
    assert [term.size for term in said] == [1]


def test_a_change_goes_into_one_sum_and_a_sum_has_one_change(learner):
    """Whatever the coordinator asks for: the difference of two sums would be the participant's own."""
    exchanged, told = learner.exchanged, {"cuts": []}
    change, share = exchanged.network(0).of(learner.items), np.ones(len(learner.items) + 1)

    def add(step, change, begins=0):
        exchanged.keep(change, begins, told)
        networks = {str(begins): exchanged.network(begins).digest()}
        exchanged.add(step, networks, told, learner.items, share)
        return (exchanged._folder / "heard" / f"{step}.npy").read_bytes()

    said = add(0, change)
    assert add(0, change) == said  # again: the same term
    assert len(bound_to(*exchanged._work)) == 1
    for step, each, begins in ((1, change, 0), (0, change.plus(change), 0), (0, change, 1)):
        with pytest.raises(Refused, match="east: its change was to be in another sum, or another change in"):
            add(step, each, begins)
    exchanged.keep(change, 0, told)
    Room.forget_round(learner._room, "r", 0)  # as `chorus rerun --participant` has it
    with pytest.raises(BadInput, match=r"east: what it kept for round 0 of run r is gone, expected change-"):
        exchanged.add(0, {}, told, learner.items, share)
    with pytest.raises(Refused, match="another change in sum 0"):
        add(0, change.plus(change))
    assert add(0, change) == said
    add(1, change.plus(change), 1)
    assert len(bound_to(*exchanged._work)) == 2


@pytest.mark.parametrize(
    ("together", "agreed"), [(1.0, "the same participants"), (0.5, "cohorts of their own")]
)
def test_a_participant_is_summed_apart_where_that_was_agreed_and_only_there(learner, together, agreed):
    """Told the one and then the other, it would say one change in two sums."""
    exchange = learner.config.exchange.model_copy(update={"together": together})
    learner.config = learner.config.model_copy(update={"exchange": exchange})
    with pytest.raises(Refused, match=f"east: agreed to sums among {agreed} only"):
        learner.add(0, together == 1, {}, {"cuts": []})
    with pytest.raises(BadInput, match="weights"):  # goes on to what weighs, which nobody has summed here
        learner.add(0, together < 1, {}, {"cuts": []})
