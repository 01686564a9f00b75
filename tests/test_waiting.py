"""Whom a sum of changes waits for: futures of Prefect's, without a server."""

from concurrent.futures import Future
from types import SimpleNamespace
from uuid import uuid4

import pytest
from prefect.futures import PrefectConcurrentFuture
from prefect.states import Completed, Failed

from federation.errors import Lost
from federation.policy import RoundPolicy
from tasks.learning import Begun, finished
from tasks.model import ModelConfig

RUN = SimpleNamespace(
    model=ModelConfig.model_validate({"sequence": {"exchange": {"together": 0.5}}}),
    policy=RoundPolicy(minimum=3),
)
GONE = Failed(data=Lost({"b": "it ended"}))


def begun(names, arrived, lost=""):
    """Trainings of which some have `arrived`, and of these some were `lost`; the rest goes on."""
    futures = {name: Future() for name in names}
    found = {name: Begun(PrefectConcurrentFuture(uuid4(), each), 0) for name, each in futures.items()}
    for name in arrived:
        futures[name].set_result(GONE if name in lost else Completed(data={"seconds": 1.0}))
    return found


def test_half_of_them_make_a_sum():
    assert finished(1, begun("abcdefgh", "dfah"), {}, [], RUN) == {*"dfah"}


def test_no_fewer_than_may_be_summed():
    assert finished(1, begun("abcd", "dab"), {}, [], RUN) == {*"dab"}


@pytest.mark.parametrize("arrived", ["abcdef", "bcdefa", "fedcba"])
def test_who_was_lost_is_none_of_them(arrived):
    """Five are left, of whom three are enough."""
    found = finished(1, begun("abcdef", arrived, lost="ab"), {}, [], RUN)
    assert len(found - {*"ab"}) >= 3


def test_all_who_were_in_a_sum_that_was_cut_off_are_waited_for():
    """Though fewer would do: a sum of fewer would tell the others' terms."""
    trainings = begun("abcdefgh", "efabc")
    assert finished(1, trainings, dict.fromkeys("abcef", 0), [], RUN) == {*"abcef"}


def test_who_was_in_it_and_is_away_now_is_not_waited_for():
    """The sum itself says that it cannot be without."""
    assert finished(1, begun("abc", "abc"), dict.fromkeys("abcd", 0), [], RUN) == {*"abc"}


def test_in_round_0_all_are_waited_for_where_a_federated_round_ends():
    whole, steps = begun("abcd", "dbac"), [{"cohort": "abc", "over": True}, {"cohort": "abcd", "over": False}]
    assert finished(0, whole, {}, steps, RUN) == {*"abcd"}
    assert len(finished(0, whole, {}, steps[:1], RUN)) >= 3
    assert len(finished(1, whole, {}, steps, RUN)) == 3
