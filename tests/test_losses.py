"""What a lost participant means for a round, before a sum was opened and after."""

import time

import pytest
from processes import program

from federation.errors import Lost, TooFew
from federation.plan import RoundPlan
from federation.policy import RoundPolicy
from federation.summed import Summed, work_of

TROUBLES = {
    "nan": "value 1 is NaN",
    "infinity": "value 1 is infinite",
    "huge": "value 1 is outside",
    "shape": "gave length 1 where others gave 2",
    "die": "its process ended",
}


@pytest.mark.parametrize(("trouble", "why"), TROUBLES.items())
def test_the_round_goes_on_without_the_refused_and_the_dead(four, trouble, why):
    done = four.round(c={"trouble": trouble})
    assert done.cohort == ("a", "b", "d")
    assert done.results["a"]["total"][0] == 1 + 2 + 4
    assert why in done.lost["c"]
    assert (set(done.lost), done.attempts, done.degraded) == ({"c"}, 2, False)
    assert four.opened.label == done.plan.label
    assert four.opened.totals["sum/0"][0] == 7


def test_who_hangs_is_ended_at_the_deadline_and_the_round_goes_on(four):
    four.round()
    started = time.monotonic()
    done = four.round(deadline=1.5, b={"trouble": "stop"})
    assert time.monotonic() - started < 10
    assert done.lost == {"b": "silent until the deadline"}
    assert done.cohort == ("a", "c", "d")


def test_who_cannot_start_is_lost_at_the_ready_call(consortium, tmp_path):
    some = consortium()
    some.doors["d"] = program("d", ["-c", "raise SystemExit(7)"], tmp_path)
    done = some.round()
    assert done.lost == {"d": "its process ended (exit code 7)"}
    assert (done.cohort, done.attempts) == (("a", "b", "c"), 1)


def test_too_few_left_stops_the_round(consortium):
    three = consortium(names="abc")
    with pytest.raises(
        TooFew, match=r"needs 3 participants .* found 2 \(a, c\); b: sum 'sum/0': value 1 is NaN"
    ):
        three.round(b={"trouble": "nan"})
    assert three.opened.totals == {}


def test_the_quorum_is_a_part_of_the_invited(consortium, tmp_path):
    with pytest.raises(TooFew, match=r"needs 4 participants .*quorum 1 of 4\), found 3"):
        consortium(quorum=1.0).round(b={"trouble": "nan"})
    some = consortium(quorum=1.0)
    some.doors["d"] = program("d", ["-c", "raise SystemExit(7)"], tmp_path)
    with pytest.raises(TooFew, match=r"needs 4 participants .*found 3 .*; d: its process ended"):
        some.round()
    assert some.opened.totals == {}


@pytest.mark.parametrize(
    ("quorum", "invited", "needed"),
    [(0.5, 4, 3), (0.5, 8, 4), (0.5, 9, 5), (0.55, 100, 55)],  # 0.55 * 100 is 55.00000000000001
)
def test_half_a_participant_is_one_and_never_fewer_than_the_minimum(quorum, invited, needed):
    assert RoundPolicy(quorum=quorum).needed(invited) == needed


def test_after_an_opened_sum_the_round_waits_for_the_same_cohort(four, tmp_path):
    done = four.round(rounds=3, c={"trouble": "die", "at": 1, "once": str(tmp_path / "once")})
    assert done.cohort == ("a", "b", "c", "d")
    assert (done.lost, done.attempts, done.degraded) == ({}, 2, False)
    assert four.opened.label == f"r/{four.number}/1"
    assert set(four.opened.totals) == {"sum/0", "sum/1", "sum/2"}


def test_a_job_that_opens_more_of_its_sums_waits_for_the_same_cohort_from_its_beginning(consortium, tmp_path):
    """As each federated round does, and each step of growing: the others would refuse to go on alone."""
    some = consortium()
    some.memory = Summed()
    some.round()
    some.number -= 1
    done = some.round(c={"trouble": "die", "once": str(tmp_path / "once")})
    assert done.cohort == ("a", "b", "c", "d")
    assert (done.lost, done.attempts) == ({}, 2)
    assert "its process ended" in done.returned["c"]


@pytest.mark.parametrize("trouble", ["die", "nan"])
def test_after_an_opened_sum_no_other_cohort_is_summed(four, trouble):
    with pytest.raises(Lost) as caught:
        four.round(rounds=3, c={"trouble": trouble, "at": 1})
    assert set(caught.value.participants) == {"c"}
    assert caught.value.exit_code == 5


def test_participants_themselves_refuse_to_be_exposed(four):
    four.round()
    four.number -= 1
    with pytest.raises(TooFew, match="would expose the difference"):
        four.round(c={"trouble": "nan"})


def test_participants_remember_a_sum_that_was_opened_before_the_round_failed(four):
    with pytest.raises(Lost):
        four.round(rounds=3, c={"trouble": "nan", "at": 1})
    four.number -= 1
    with pytest.raises(TooFew, match="would expose the difference"):
        four.round(c={"trouble": "nan"})


def test_processes_started_anew_still_refuse_to_be_exposed(consortium):
    before = consortium()
    with pytest.raises(Lost):
        before.round(rounds=3, **{name: {"trouble": "die", "at": 1} for name in "abcd"})
    before.close()
    after = consortium()
    with pytest.raises(TooFew, match="would expose the difference"):
        after.round(rounds=3, d={"trouble": "nan"})
    after.number -= 1
    assert after.round(rounds=3).cohort == ("a", "b", "c", "d")


def test_an_attempt_that_opened_nothing_is_forgotten(consortium):
    once = consortium()
    with pytest.raises(TooFew):
        once.round(**{name: {"trouble": "nan"} for name in "bcd"})
    once.number -= 1
    assert once.round(d={"trouble": "nan"}).cohort == ("a", "b", "c")


def test_where_all_agreed_to_be_exposed_the_rest_goes_on(consortium):
    agreed = consortium(on_loss="continue")
    done = agreed.round(rounds=3, c={"trouble": "die", "at": 1})
    assert done.cohort == ("a", "b", "d")
    assert (done.exposed, done.degraded) == (("c",), True)
    assert done.results["a"]["total"][0] == 7


def test_whoever_is_missing_from_the_sums_before_the_resumption_is_exposed(consortium):
    agreed = consortium(on_loss="continue")
    agreed.memory = Summed()
    agreed.round(rounds=3, c={"trouble": "die", "at": 1})
    for _ in range(2):
        agreed.number -= 1
        done = agreed.round(d={"trouble": "nan"})
        assert (done.cohort, done.exposed) == (("a", "b", "c"), ("d",))
    assert agreed.memory.everyone("r") == set("abcd")


def test_what_opens_the_same_as_another_job_is_among_the_same():
    """A transformer's figures and changes are of those whose events popularity opens."""
    memory, plan = Summed(), RoundPlan(run="r", number=0, cohort=("a", "b", "c"))
    memory.note(plan, work_of("gather", {}), plan.cohort)
    for job in ("look", "average"):
        assert memory.cohort(plan, work_of(job, {"step": 3, "apart": False})) == ("a", "b", "c")
    assert memory.cohort(plan, work_of("grow", {})) is None
    assert memory.cohort(plan.model_copy(update={"number": 1}), work_of("look", {"step": 3})) is None


def test_changes_that_come_apart_have_a_cohort_in_each_step():
    """No other job has, whatever it is told."""
    assert work_of("average", {"step": 3, "apart": True}) != work_of("average", {"step": 4, "apart": True})
    for job in ("gather", "grow", "look", "evaluate"):
        assert work_of(job, {"step": 3, "apart": True}) == work_of(job, {})
