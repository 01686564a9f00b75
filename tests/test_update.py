import functools
import operator

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from federation.errors import Refused
from federation.update import Update

updates = st.sampled_from([np.uint8, np.uint16, np.uint32, np.uint64]).flatmap(
    lambda kind: st.lists(arrays(kind, 5).map(Update), min_size=1, max_size=6)
)


@given(updates, st.randoms(use_true_random=False), st.data())
def test_order_and_grouping_change_nothing(terms, random, data):
    straight = functools.reduce(operator.add, terms)
    shuffled = random.sample(terms, len(terms))
    cut = data.draw(st.integers(0, len(terms)))
    groups = [group for group in (shuffled[:cut], shuffled[cut:]) if group]
    grouped = functools.reduce(operator.add, [functools.reduce(operator.add, group) for group in groups])
    np.testing.assert_array_equal(grouped.words, straight.words)
    assert grouped.terms == straight.terms == len(terms)


def test_wraps_around():
    total = Update(np.array([255], np.uint8)) + Update(np.array([2], np.uint8))
    assert total.words.tolist() == [1]


@pytest.mark.parametrize("other", [np.zeros(3, np.uint64), np.zeros(2, np.uint32)])
def test_refuses_other_widths_and_lengths(other):
    with pytest.raises(Refused, match="cannot be added"):
        Update(np.zeros(2, np.uint64)) + Update(other)


def test_refuses_what_is_not_a_vector_of_words():
    for words in (np.zeros(2), np.zeros((2, 2), np.uint8)):
        with pytest.raises(Refused, match="vector of unsigned words"):
            Update(words)
    with pytest.raises(Refused, match="at least one term"):
        Update(np.zeros(2, np.uint8), 0)


def test_is_frozen_without_freezing_the_caller():
    words = np.zeros(2, np.uint8)
    update = Update(words)
    with pytest.raises(ValueError, match="read-only"):
        update.words[0] = 1
    words[0] = 1
    assert repr(update) == "Update(2 words of uint8, terms=1)"
