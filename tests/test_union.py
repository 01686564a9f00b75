"""The union of sets is a sum: it is the sets' union, and the opened table tells nothing else."""

import secrets

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from parties import agreed, together

from federation.errors import Refused
from federation.union import WORDS, _alone, _hashes, _peeled, _places, _rows, union

TEXTS = st.sets(st.text(st.characters(exclude_categories=["Cs"]), max_size=100), max_size=20)


def united(sets):
    return agreed(lambda texts, channel: union(channel, texts), sets)


@given(sets=st.lists(TEXTS, min_size=2, max_size=5), shared=TEXTS)
@settings(deadline=None, max_examples=50)
def test_it_is_the_union_of_the_sets(sets, shared):
    sets = [each | shared for each in sets]
    assert united(sets) == sorted(set().union(*sets))


def test_many_texts_and_long_ones():
    sets = [{f"item {n}" * (1 + n % 9) for n in range(start, start + 2000)} for start in (0, 1000, 1500)]
    sets[0] |= {"x" * 5000, "x" * 4999 + "y", ""}
    assert united(sets) == sorted(set().union(*sets))


def test_how_many_have_a_text_cannot_be_told():
    """A row's multiple in the sum is a uniform word: its lowest and highest bits are 1 half of the time."""
    rows = {name: _rows({name}) for name in ("one has it", "all have it")}
    drawn = {name: [] for name in rows}

    def opened(texts, channel):
        tables = []
        channel.sum, add = lambda *term: tables.append(add(*term)) or tables[-1], channel.sum
        union(channel, texts)
        return tables[0].reshape(-1, 13).tolist()

    for number in range(60):
        table = np.array(together(opened, [{*rows}, {"all have it"}, {"all have it"}], number)[0], np.uint64)
        for name, row in rows.items():
            multipliers = [
                m for m, *limbs in table if ((m * row[0]) == np.array(limbs, np.uint64)).all() and m
            ]
            drawn[name].append(int(multipliers[0]))
    for multipliers in drawn.values():
        assert len({*multipliers}) == 60
        for bit in (0, 63):
            assert 12 < sum(each >> bit & 1 for each in multipliers) < 48  # but for one time in 10^5


@pytest.mark.parametrize("power", [1, 20, 31])
def test_an_even_multiplier_has_an_inverse_for_what_a_limb_can_hold(power, monkeypatch):
    def even(size):
        drawn = np.frombuffer(np.random.default_rng(0).bytes(size), np.uint64)
        return ((drawn | np.uint64(1)) << np.uint64(power)).tobytes()

    monkeypatch.setattr(secrets, "token_bytes", even)
    assert united([{"a", "ü" * 40}, {"b"}]) == ["a", "b", "ü" * 40]


def test_what_is_no_table_is_refused(monkeypatch):
    sizes = (3 << 9, 3 << 11)
    monkeypatch.setattr("federation.union._SIZES", sizes)

    def garbage(texts, channel):
        if texts is not None:
            return union(channel, texts)
        for cells in sizes:
            channel.sum(f"union/{cells}", np.full(cells * 13, 7, np.uint64), WORDS)
        return None

    with pytest.raises(
        Refused, match="no table of texts: there are too many, or somebody added something else"
    ):
        together(garbage, [{"a"}, {"b"}, None])


def test_a_row_in_one_cell_only_does_not_go_round_in_a_circle(monkeypatch):
    passes = []
    monkeypatch.setattr("federation.union._alone", lambda table: passes.append(1) or _alone(table))
    table = np.zeros((1536, 13), np.uint64)
    (row,) = _rows({"a"})
    table[_places(_hashes(row[None]), 1536)[0, 0]] = [1, *row]
    assert _peeled(table) is None
    assert len(passes) == 1
