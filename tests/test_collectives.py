import ctypes

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from federation.channel import Solo
from federation.errors import Lost, Refused
from federation.plan import RoundPlan
from federation.simulate import simulate
from recommenders.bins import agree
from recommenders.boosting import BoostingConfig, Rows
from recommenders.collectives import WORDS, Collectives
from recommenders.growth import begin, grow
from recommenders.histograms import check_width, narrow, pack, unpack, wide
from recommenders.learner import lightgbm_parameters
from recommenders.wire import Seat, Wire, probe

WIRE = Wire(24, 16, 8, 0, 200, 20, 94)


def histogram(r, counts, bits):
    """A histogram with `counts` rows in its cells, each with the largest or a random gradient."""
    most = counts << bits
    gradient = np.where(
        r.random(len(counts)) < 0.5, most * r.choice([-1, 1], len(counts)), r.integers(-most, most + 1)
    )
    return np.stack([gradient, counts * 1024.0], axis=1).ravel().astype(float)


@settings(max_examples=60)
@given(st.integers(0, 2**32 - 1), st.integers(2, 9), st.integers(1, 20))
def test_packed_histograms_add_up_without_overflow(seed, participants, bits):
    r = np.random.default_rng(seed)
    cells = int(r.integers(1, 40))
    root = np.array([r.integers(0, 2 ** r.integers(1, 18), cells) for _ in range(participants)])
    rows = int(root.sum())
    if 1 + bits + 2 * rows.bit_length() > 64:
        return
    starts = np.unique(np.append(0, r.integers(0, cells, 3)))

    def added(counts, layout):
        parts = [histogram(r, row, bits) for row in counts]
        words = sum(WORDS.encode(pack(part, layout)) for part in parts)
        found, opened = np.empty(2 * cells), WORDS.decode(words)
        unpack(opened, layout, 0, found)
        np.testing.assert_array_equal(found, sum(parts))
        first = int(r.choice(starts))
        end = int(min([start for start in starts if start > first], default=cells))
        own = np.empty(2 * (end - first))
        unpack(opened[layout.part(first, end - first)], layout, first, own)
        np.testing.assert_array_equal(own, found[2 * first : 2 * end])
        return found

    totals = added(root, wide(cells, rows, bits))
    layout = narrow(totals, starts, bits)
    added(root, layout)
    added(r.integers(0, root + 1), layout)
    assert layout.words <= cells
    assert layout.part(0, 0) == slice(0, 0)
    for start in starts[starts > 0]:
        assert layout.word[start] > layout.word[start - 1]


def test_a_cell_that_its_field_cannot_hold_is_refused():
    layout = wide(1, 3, 4)
    for cell in ([0.0, 4 * 1024.0], [17.0, 1024.0], [0.5, 1024.0], [1.0, 1000.0], [np.nan, 1024.0]):
        with pytest.raises(Refused):
            pack(np.array(cell), layout)


@pytest.mark.parametrize(
    "value", [2.0**51, 2.0**52, 3.0 * 2**52, 2.0**53 + 2, 2.0**63, 2.0**64, 1e300, np.inf, np.nan]
)
@pytest.mark.parametrize("sign", [1.0, -1.0])
@pytest.mark.parametrize("bits", [1, 24])
def test_a_cell_beyond_all_integers_is_refused(value, sign, bits):
    layout = wide(1, 2**19 - 1, bits)
    for cell in (
        [sign * value, 1024.0],
        [0.0, sign * value * 1024.0],
        [sign * value, 2.0**19 * 1024.0 - 1024.0],
    ):
        with pytest.raises(Refused):
            pack(np.array(cell), layout)


def test_the_largest_cell_travels():
    bits, rows = 24, 2**19 - 1
    layout, found = wide(1, rows, bits), np.empty(2)
    for gradient in (-(2.0**24) * rows, 2.0**24 * rows):
        unpack(pack(np.array([gradient, rows * 1024.0]), layout), layout, 0, found)
        assert found.tolist() == [gradient, rows * 1024.0]


def test_a_plan_beyond_the_word_is_refused():
    check_width(10, 2**25)
    with pytest.raises(Refused, match=r"a word has 64.* choose a gradient_bits smaller by 3"):
        check_width(12, 2**26)
    check_width(12 - 3, 2**26)


def test_lightgbm_tells_how_it_lays_out_its_tuples():
    wire = probe({"objective": "none", "verbosity": -1, "num_threads": 1, "max_cat_threshold": 1})
    assert sorted(wire[1:4]) == sorted({*wire[1:4]})
    assert wire.root == 24
    assert wire.splits == 2 * (wire.list_at + 4)


def test_an_unknown_collective_is_an_error():
    me = Collectives(Solo(), Seat(0, 1), WIRE, 10, 7, [3])
    source, out = ctypes.create_string_buffer(40), ctypes.create_string_buffer(b"x" * 40)
    one = (ctypes.c_int32 * 1)(40)
    me.callbacks[1](ctypes.addressof(source), 40, (ctypes.c_int32 * 1)(0), one, 1, ctypes.addressof(out), 40)
    assert out.raw[:40] == bytes(40)
    with pytest.raises(Refused, match="unknown kind"):
        me.check()


@pytest.mark.parametrize(("size", "width"), [(32, 4), (24, 16), (32, 24)])
def test_an_unknown_reduce_scatter_is_an_error(size, width):
    me = Collectives(Solo(), Seat(0, 1), WIRE, 10, 7, [3])
    source, out = ctypes.create_string_buffer(size), ctypes.create_string_buffer(b"x" * size)
    start, length = (ctypes.c_int32 * 1)(0), (ctypes.c_int32 * 1)(size)
    at = ctypes.addressof(source), ctypes.addressof(out)
    me.callbacks[0](at[0], size, width, start, length, 1, at[1], size, None)
    assert out.raw[:size] == bytes(size)
    with pytest.raises(Refused, match=f"reduce-scatter of {size} bytes in units of {width}"):
        me.check()


def test_a_histogram_of_another_size_in_the_same_tree_is_an_error():
    me = Collectives(Solo(), Seat(0, 1), WIRE, 10, 7, [3])
    me.begin(0)
    for size in (32, 48):
        source, out = ctypes.create_string_buffer(size), ctypes.create_string_buffer(size)
        start, length = (ctypes.c_int32 * 1)(0), (ctypes.c_int32 * 1)(size)
        at = ctypes.addressof(source), ctypes.addressof(out)
        me.callbacks[0](at[0], size, 16, start, length, 1, at[1], size, None)
    with pytest.raises(Refused, match="a histogram of 3 cells in a tree of 2"):
        me.check()


def test_traffic_that_is_not_known_is_refused_at_the_start(monkeypatch):
    monkeypatch.setattr("lightgbm.Booster.update", lambda *_, **__: True)
    with pytest.raises(Refused, match=r"LightGBM gathered \[\] bytes, expected two pieces"):
        probe({"objective": "none", "verbosity": -1, "num_threads": 1, "max_cat_threshold": 1})


class Overheard:
    """A channel that keeps what its participant says of splits."""

    def __init__(self, channel, said):
        self.channel, self.said = channel, said
        self.name, self.cohort = channel.name, channel.cohort

    def sum(self, name, vector, form, part=None):
        if "/splits/" in name:
            self.said[self.name, name] = vector.tobytes()
        return self.channel.sum(name, vector, form, part)


@pytest.mark.parametrize("categories", [{}, {"x": range(60)}])
def test_the_splits_that_are_said_tell_nothing_of_the_own_rows(categories):
    """They follow from sums: to the last byte the same, whoever holds the rows."""
    r = np.random.default_rng(0)
    config = BoostingConfig(objective="binary", min_data_in_leaf=5, min_data_per_group=5)
    features = np.column_stack([r.integers(0, 60, 900), r.normal(size=(900, 3))]).astype(float)
    labels = (features[:, 0] % 7 + features[:, 1] > 3) * 1.0
    bins, said = agree(Solo(), features, "xyzw", categories), [{}, {}]
    for owner, kept in zip((np.arange(900) % 3, np.arange(900) // 300), said, strict=True):

        def part(name, owner=owner, kept=kept):
            held = owner == "abc".index(name)
            mine = Rows(np.ascontiguousarray(features[held]), labels[held])

            def work(channel):
                return grow(Overheard(channel, kept), mine, begin(channel, mine, bins, config), config, 2)

            return work

        simulate({name: part(name) for name in "abc"}, RoundPlan(run="r", number=0, cohort=tuple("abc")))
    assert said[0].keys() == said[1].keys()
    assert said[0] == said[1]


def test_many_participants_say_as_many_splits_as_there_are_features():
    """Else each of a thousand would send a thousand slots, nearly all of them zeros."""
    r, names, said = np.random.default_rng(0), [f"p{place:02}" for place in range(12)], {}
    config = BoostingConfig(objective="binary", min_data_in_leaf=5, feature_fraction=1.0)
    features = r.normal(size=(1200, 2))
    labels = (features.sum(axis=1) > 0) * 1.0
    bins = agree(Solo(), features, "xy")

    def part(rank):
        mine = Rows(np.ascontiguousarray(features[rank::12]), labels[rank::12])

        def work(channel):
            return grow(Overheard(channel, said), mine, begin(channel, mine, bins, config), config, 3)

        return work

    parts = {name: part(rank) for rank, name in enumerate(names)}
    grown = simulate(parts, RoundPlan(run="r", number=0, cohort=tuple(names)))
    assert {len(each) for each in said.values()} == {2 * probe(lightgbm_parameters(config, bins, 1)).splits}
    everybody, alone = Rows(features, labels), Solo()
    serial = grow(alone, everybody, begin(alone, everybody, bins, config), config, 3)
    assert all(state == serial for state in grown.values())


class Inventing:
    """A channel whose participant tells splits with `number` at a place where something else belongs."""

    def __init__(self, channel, at, number):
        self.channel, self.at, self.number = channel, at, number
        self.name, self.cohort = channel.name, channel.cohort

    def sum(self, name, vector, form, part=None):
        if "/splits/" in name:
            vector = vector.copy()
            vector[self.at :][:4] = np.array([self.number], "<i4").view(np.uint8)
        return self.channel.sum(name, vector, form, part)


@pytest.mark.parametrize(
    ("at", "number"), [(0, 3), (0, -2), (20, 15), (20, -1), (90, 2), (90, -1), (94, 15), (98 + 20, 1 << 30)]
)
def test_a_split_of_no_feature_or_bin_does_not_reach_lightgbm(at, number):
    """It looks up what it is told: the others' processes would end, or go on with what lies elsewhere."""
    r = np.random.default_rng(0)
    config = BoostingConfig(objective="binary", min_data_in_leaf=5, max_bin=15)
    features = r.normal(size=(300, 3))
    bins = agree(Solo(), features, "xyz", max_bin=15)
    wire = probe(lightgbm_parameters(config, bins, 1))
    assert (wire.bin_at, wire.list_at, wire.splits) == (20, 94, 2 * 98)

    def part(rank):
        mine = Rows(np.ascontiguousarray(features[rank::3]), (features[rank::3, 0] > 0) * 1.0)

        def work(channel):
            channel = Inventing(channel, at, number) if rank == 0 else channel
            return grow(channel, mine, begin(channel, mine, bins, config), config, 1)

        return work

    with pytest.raises(Refused, match="a split that somebody told is of no feature or bin"):
        simulate({n: part(k) for k, n in enumerate("abc")}, RoundPlan(run="r", number=0, cohort=tuple("abc")))


class Failing:
    """A channel that breaks at its n-th sum."""

    def __init__(self, channel, calls):
        self.channel, self.calls = channel, calls
        self.name, self.cohort = channel.name, channel.cohort

    def sum(self, name, vector, form, part=None):
        self.calls -= 1
        if self.calls < 0:
            raise KeyError("the disk is full")
        return self.channel.sum(name, vector, form, part)

    def read(self, name):
        return self.channel.read(name)


@pytest.mark.parametrize("calls", [0, 2, 3, 4, 5, 6, 9, 12, 30])
def test_one_that_fails_in_a_tree_gives_the_others_an_error(calls):
    r = np.random.default_rng(0)
    config = BoostingConfig(objective="binary", num_leaves=5, min_data_in_leaf=5, max_bin=15)
    features = r.normal(size=(300, 3))
    bins = agree(Solo(), features, "xyz", max_bin=15)
    seen = {}

    def part(rank):
        mine = Rows(np.ascontiguousarray(features[rank::3]), (features[rank::3, 0] > 0) * 1.0)

        def work(channel):
            channel = Failing(channel, calls) if rank == 1 else channel
            try:
                return grow(channel, mine, begin(channel, mine, bins, config), config, 5)
            except Exception as error:
                seen[rank] = error
                raise

        return work

    parts = {name: part(rank) for rank, name in enumerate("abc")}
    with pytest.raises(KeyError, match="the disk is full"):
        simulate(parts, RoundPlan(run="r", number=0, cohort=tuple("abc"), deadline_seconds=60))
    assert isinstance(seen[0], Lost)
    assert isinstance(seen[2], Lost)
    assert set(seen[0].participants) == {"b"}
