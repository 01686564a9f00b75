"""Turns, and who takes them; the sleeps let other threads run just where these must not."""

import os
import threading
import time

import numpy as np
import pytest

from federation.fixed_point import FixedPoint
from federation.plan import RoundPlan
from federation.simulate import simulate
from federation.turns import Turns


def together(*works):
    threads = [threading.Thread(target=work, daemon=True) for work in works]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
        assert not thread.is_alive()


def test_one_has_it_at_a_time_and_may_enter_again():
    turns, inside, seen = Turns(), [], []

    def work():
        for _ in range(200):
            with turns, turns:
                inside.append(1)
                time.sleep(0)
                seen.append(len(inside))
                inside.pop()

    together(*[work] * 8)
    assert seen == [1] * 1600


def test_the_woken_come_in_the_order_in_which_they_waited():
    turns, order = Turns(), []

    def waiting(number):
        def work():
            while len(order) < number:
                time.sleep(0.001)
            with turns:
                order.append(number)
                turns.wait(20)
                order.append(number)

        return work

    def waking():
        while len(order) < 5:
            time.sleep(0.001)
        with turns:
            turns.notify_all()
            time.sleep(0.01)
            assert order == [0, 1, 2, 3, 4]

    together(*map(waiting, range(5)), waking)
    assert order == [0, 1, 2, 3, 4] * 2


@pytest.mark.parametrize("seconds", [-1.0, 0.0, 0.02])
def test_waiting_ends_by_itself_but_not_before_its_turn(seconds):
    turns, told = Turns(), []

    def waiting():
        with turns, turns:
            turns.notify_all()
            turns.wait(seconds)
            told.append("woke up")

    def holding():
        with turns:
            thread = threading.Thread(target=waiting, daemon=True)
            thread.start()
            turns.wait(20)
            time.sleep(0.05)
            told.append("still mine")
        thread.join(20)

    together(holding)
    assert told == ["still mine", "woke up"]
    with turns:
        told.append("free again")


def test_nobody_is_forgotten_where_timeouts_and_waking_meet():
    turns, rounds = Turns(), 300

    def waiting():
        for number in range(rounds):
            with turns:
                turns.wait(0.0001 * (number % 3))

    def waking():
        for _ in range(rounds):
            with turns:
                turns.notify_all()

    together(*[waiting] * 4, *[waking] * 2)


def test_simulated_participants_run_one_at_a_time_from_sum_to_sum():
    running, most = set(), []

    def part(channel):
        for number in range(20):
            running.add(channel.name)
            time.sleep(0.0005)
            most.append(len(running))
            running.discard(channel.name)
            channel.sum(f"{number}", np.ones(2), FixedPoint(terms=4))

    simulate(dict.fromkeys("abcd", part), RoundPlan(run="r", number=0, cohort=tuple("abcd")))
    assert most == [1] * 80


@pytest.mark.skipif(not hasattr(os, "sched_getscheduler"), reason="policies are Linux's")
def test_simulated_participants_do_not_interrupt_who_wakes_them():
    caller = os.sched_getscheduler(0)
    parts = dict.fromkeys("ab", lambda _: os.sched_getscheduler(0))
    found = simulate(parts, RoundPlan(run="r", number=0, cohort=("a", "b")))
    assert set(found.values()) == {os.SCHED_BATCH if caller == os.SCHED_OTHER else caller}
    assert os.sched_getscheduler(0) == caller
