"""Schedules as people type them, and the record of what was configured, decided, pinned and written."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from federation.errors import BadInput
from tasks import timetable
from tasks.schedule import ScheduleConfig
from tasks.timetable import Timetable
from tasks.timing import Timing, interval_text, parse_timing, read_timing

ANCHOR = datetime(2026, 1, 1, tzinfo=UTC)
NOW = datetime(2026, 11, 24, 20, tzinfo=UTC)


def every(seconds):
    return Timing(seconds=seconds, anchor=ANCHOR)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("1d", 86_400), ("6h", 21_600), ("1d12h", 129_600), ("90m", 5_400), ("2w", 1_209_600), ("0.5d", 43_200)],
)
def test_an_interval_is_read(text, seconds):
    assert parse_timing(text, ANCHOR) == every(seconds)


@pytest.mark.parametrize("text", ["", "soon", "1", "-1d", "1d later", "61 * * * *", "* * *", "0 0 31 2 *"])
def test_anything_else_is_refused_with_what_was_expected(text):
    with pytest.raises(BadInput, match=r"expected an interval|expected a cron line"):
        parse_timing(text, ANCHOR)


@pytest.mark.parametrize("text", ["0s", "3s", "59s", "99999999999d", "36525d1s", "9" * 400 + "d"])
def test_an_interval_that_no_schedule_can_have_is_refused(text):
    with pytest.raises(BadInput, match=f"found '{text}', expected an interval from 1m to a hundred years"):
        parse_timing(text, ANCHOR)


@given(st.integers(60, 10**8))
def test_an_interval_reads_back(seconds):
    assert parse_timing(interval_text(seconds), ANCHOR).seconds == seconds


@given(st.one_of(st.floats(1, 10**7).map(every), st.just(Timing(cron="0 3 * * 1", timezone="Europe/Berlin"))))
def test_prefect_has_the_same_schedule(timing):
    assert read_timing(timing.schedule()) == timing


def test_the_anchor_is_the_same_moment_in_every_zone():
    berlin = ANCHOR.astimezone(__import__("zoneinfo").ZoneInfo("Europe/Berlin"))
    assert ScheduleConfig(anchor=berlin).every(6) == every(21_600)
    assert ScheduleConfig(cron="0 3 * * *").timing(7) == Timing(cron="0 3 * * *", timezone="UTC")
    assert ScheduleConfig().timing(7) == every(7 * 86_400)
    assert ScheduleConfig(start_days=2).timing(None) == every(2 * 86_400)


INTERVALS = st.sampled_from([every(seconds) for seconds in (3_600, 7_200, 86_400)])
CHANGES = st.lists(
    st.one_of(
        st.tuples(st.just("configure"), INTERVALS),
        st.tuples(st.just("decide"), INTERVALS),
        st.tuples(st.just("pin"), INTERVALS),
        st.tuples(st.just("unpin"), st.none()),
        st.tuples(st.just("by hand"), st.lists(INTERVALS, max_size=2, unique=True).map(tuple)),
        st.tuples(st.just("killed while writing"), INTERVALS),
    ),
    max_size=20,
)


@given(CHANGES)
def test_the_last_hand_wins_over_every_policy_and_every_deploy(changes):
    """Against a model that keeps only: the pin, if any, and the last of configuration and policy."""
    first = every(1_800)
    table, prefect = Timetable(configured=first, decided=first), (first,)
    table = table.writing(prefect)
    pin, automatic, configured = None, first, first
    for what, value in changes:
        table = table.seen(prefect, NOW)
        if what == "configure":
            table = table.configure(value)
            automatic = value if value != configured else automatic
            configured = value
        elif what == "decide":
            table, automatic = table.decide(value), value
        elif what == "pin":
            table, pin = table.pinned((value,), NOW, "an operator"), (value,)
        elif what == "unpin":
            table, pin = table.unpinned(), None
        elif what == "by hand":
            if value != prefect:
                pin = value
            prefect = value
            table = table.seen(prefect, NOW)
        else:  # what was to be written is on record before it is written
            killed = table.decide(value)
            table, automatic = killed.writing(*killed.written, prefect, killed.wanted), value
            prefect = killed.wanted
            table = table.seen(prefect, NOW)
        assert table.wanted == (pin or (automatic,) if pin != () else ())
        prefect = table.wanted
        table = table.writing(prefect)
        assert table.seen(prefect, NOW) == table


def test_the_record_reads_back_and_is_private(tmp_path):
    assert timetable.read(tmp_path, "train") is None
    table = Timetable(configured=every(60), decided=every(120), written=((every(120),),))
    table = table.pinned((Timing(cron="0 3 * * *", timezone="UTC"),), NOW, "chorus schedule pin")
    with timetable.locked(tmp_path):
        timetable.save(tmp_path, "train", table)
    assert timetable.read(tmp_path, "train") == table
    (path,) = (tmp_path / "coordinator" / "schedule").glob("*.json")
    assert path.stat().st_mode & 0o077 == 0


def test_schedules_are_told_as_people_say_them():
    assert timetable.text((every(timedelta(days=1.5).total_seconds()),)) == "every 1d12h"
    assert (
        timetable.text((Timing(cron="0 3 * * 1", timezone="Europe/Berlin"),))
        == "at 0 3 * * 1 (Europe/Berlin)"
    )
    assert timetable.text(()) == "paused"


def test_a_run_of_a_schedule_that_is_gone_is_known_as_one():
    """As Prefect's scheduler makes one that reads the old schedule just before it is changed."""
    table = Timetable(configured=every(60), decided=every(90), written=((every(90),),), since=NOW)
    on_the_new, on_the_old = NOW + timedelta(seconds=90), NOW + timedelta(seconds=60)
    assert (NOW - ANCHOR).total_seconds() % 180 == 0
    assert table.strays(on_the_old, (every(90),))
    assert not table.strays(on_the_new, (every(90),))
    assert not table.strays(on_the_old, (every(60),))  # a person has just changed it back in the page
    assert not table.strays(NOW - timedelta(seconds=60), (every(90),))  # due before the change, and late
    assert not table.model_copy(update={"since": None}).strays(on_the_old, (every(90),))


def test_a_run_of_a_schedule_that_a_person_has_paused_is_known_as_one():
    table = Timetable(configured=every(60), decided=every(60), written=((every(60),),))
    moment = NOW + timedelta(seconds=60)
    assert table.strays(moment, ())
    looked = table.seen((), NOW)
    assert looked.writing(looked.wanted).strays(moment, ())
    assert not table.strays(moment, (every(60),))
