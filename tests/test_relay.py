import threading
import time
import tracemalloc

import numpy as np
import pytest

from federation.errors import Lost, Refused
from federation.fixed_point import FixedPoint
from federation.plan import RoundPlan
from federation.relay import Header, Relay

FORM = FixedPoint(width=32, fraction_bits=0, terms=64)


def plan_of(*names, **more):
    return RoundPlan(run="r", number=3, cohort=names, **more)


def header(relay, name="x", length=4, **more):
    return Header(**{"label": relay.plan.label, "name": name, "form": FORM, "length": length, **more})


def ones(length=4):
    return np.ones(length, np.uint32)


def say(relay, speeches):
    """Each of `speeches` (name -> function of nothing) in a thread; what came back or was raised."""
    heard = {}

    def one(name, speech):
        try:
            heard[name] = speech()
        except Exception as error:
            heard[name] = error

    threads = [threading.Thread(target=one, args=item) for item in speeches.items()]
    for thread in threads:
        thread.start()
        time.sleep(0.02)
    for thread in threads:
        thread.join()
    return heard


def test_adds_chunks_of_any_kind_and_size():
    opened = []
    relay = Relay(plan_of("a", "b", "c"), lambda *seen: opened.append(seen))
    heard = say(
        relay,
        {
            "a": lambda: relay.add("a", header(relay), [ones()]),
            "b": lambda: relay.add("b", header(relay), [ones(1).tobytes(), memoryview(ones(3).tobytes())]),
            "c": lambda: relay.add("c", header(relay), iter([ones(2), ones(0), ones(2)])),
        },
    )
    assert all(total.words.tolist() == [3] * 4 and total.terms == 3 for total in heard.values())
    assert [(name, total.words.tolist()) for name, _, total in opened] == [("x", [3] * 4)]
    assert relay.bytes_up == relay.bytes_down == {"a": 16, "b": 16, "c": 16}


WRONG = {
    "a stale label": ({"label": "r/2/0"}, 4, "for r/2/0, not for r/3/0"),
    "another length": ({"length": 3}, 3, "length 3 where others gave 4"),
    "another form": (
        {"form": FixedPoint(width=32, fraction_bits=0, terms=65)},
        4,
        "form .* where others gave",
    ),
    "another name": ({"name": "y"}, 4, "name y where others gave x"),
    "a form for fewer": ({"form": FixedPoint(width=32, fraction_bits=0, terms=2)}, 4, "for 2 terms"),
    "too few words": ({}, 3, "gave 3 of the 4 words"),
    "too many words": ({}, 5, "more than the 4 words"),
}


@pytest.mark.parametrize("order", ["cab", "acb", "abc"])
@pytest.mark.parametrize(("change", "length", "said"), WRONG.values(), ids=WRONG)
def test_refuses_by_name_whoever_came_first(change, length, said, order):
    opened = []
    relay = Relay(plan_of("a", "b", "c", deadline_seconds=20), lambda *seen: opened.append(seen))
    speeches = {name: lambda name=name: relay.add(name, header(relay), [ones()]) for name in "ab"}
    speeches["c"] = lambda: relay.add("c", header(relay, **change), [ones(length)])
    heard = say(relay, {name: speeches[name] for name in order})
    assert isinstance(heard["c"], Refused)
    assert heard["c"].args[0].startswith("c: ")
    for name in "ab":
        assert isinstance(heard[name], Lost)
        assert set(heard[name].participants) == {"c"}
    with pytest.raises(Refused, match=said):
        raise heard["c"]
    assert set(relay.culprits) == {"c"}
    assert opened == []
    assert relay._current is None


def test_refuses_a_duplicate_while_the_sum_is_open_and_after():
    relay = Relay(plan_of("a", "b"))
    heard = say(
        relay,
        {
            "once": lambda: relay.add("a", header(relay), [ones()]),
            "twice": lambda: relay.add("a", header(relay), [ones()]),
        },
    )
    assert all("gave 'x' while its term" in str(error) for error in heard.values())
    relay = Relay(plan_of("a"))
    relay.add("a", header(relay), [ones()])
    with pytest.raises(Refused, match="a: gave a second term to 'x'"):
        relay.add("a", header(relay), [ones()])


def test_an_outsider_is_refused_and_spoils_nothing():
    relay = Relay(plan_of("a", "b"))
    with pytest.raises(Refused, match=r"z: is not in the cohort \['a', 'b'\]"):
        relay.add("z", header(relay), [ones()])
    heard = say(relay, {n: lambda n=n: relay.add(n, header(relay), [ones()]) for n in "ab"})
    assert heard["a"].words.tolist() == [2] * 4


def test_the_silent_are_named_at_the_deadline_and_the_late_go_unread():
    relay = Relay(plan_of("a", "b", "c", deadline_seconds=0.3))
    heard = say(relay, {n: lambda n=n: relay.add(n, header(relay), [ones()]) for n in "ab"})
    assert heard["a"].participants == heard["b"].participants == {"c": "silent until the deadline"}
    with pytest.raises(Lost):
        relay.add("c", header(relay), (pytest.fail("was read") for _ in [0]))
    assert relay.opened == 0


def test_who_waits_for_the_silent_is_not_named_as_one():
    """Until all have announced their terms, it is open whose is unlike the others'."""
    relay = Relay(plan_of("a", "b", "c", "d", deadline_seconds=0.5))
    lengths = {"a": 5, "b": 4, "c": 4}
    heard = say(
        relay,
        {n: lambda n=n, k=k: relay.add(n, header(relay, length=k), [ones(k)]) for n, k in lengths.items()},
    )
    assert all(error.participants == {"d": "silent until the deadline"} for error in heard.values())


def test_a_contribution_that_breaks_off_leaves_nothing():
    def broken():
        yield ones(2)
        raise EOFError

    relay = Relay(plan_of("a", "b", "c"))
    heard = say(
        relay,
        {
            "a": lambda: relay.add("a", header(relay), [ones()]),
            "b": lambda: relay.add("b", header(relay), broken()),
            "c": lambda: relay.add("c", header(relay), [ones()]),
        },
    )
    assert isinstance(heard["b"], EOFError)
    assert heard["a"].participants == heard["c"].participants == {"b": "EOFError"}


@pytest.mark.parametrize("before", [True, False])
def test_who_ends_its_work_early_is_named(before):
    relay = Relay(plan_of("a", "b", "c", deadline_seconds=20))
    speeches = {n: lambda n=n: relay.add(n, header(relay), [ones()]) for n in "ab"}
    leave = {"c": lambda: relay.leave("c")}
    heard = say(relay, {**leave, **speeches} if before else {**speeches, **leave})
    assert "ended its work without a term of 'x'" in heard["a"].participants["c"]


def test_a_sum_that_cannot_be_kept_is_not_given_away():
    def broken(*_):
        raise OSError("disk is full")

    relay = Relay(plan_of("a", "b"), broken)
    heard = say(relay, {n: lambda n=n: relay.add(n, header(relay), [ones()]) for n in "ab"})
    assert heard["a"].participants == {"coordinator": "could not keep the sum: disk is full"}
    assert isinstance(heard["b"], OSError)


def test_memory_does_not_grow_with_participants():
    def peak(number):
        names = [f"p{i:02}" for i in range(number)]
        relay = Relay(plan_of(*names))
        length, block = 1 << 20, ones(1 << 14)
        chunks = {name: (block for _ in range(length // block.size)) for name in names}
        tracemalloc.start()
        say(relay, {n: lambda n=n: relay.add(n, header(relay, length=length), chunks[n]) for n in names})
        most = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return most

    few, many = peak(3), peak(24)
    assert few < 5 << 20
    assert many < few + (1 << 19)


def test_hundreds_of_sums_in_lockstep():
    relay = Relay(plan_of("a", "b", "c"))

    def speak(name):
        return [relay.add(name, header(relay, f"{k}"), [ones() * k]).words[0] for k in range(300)]

    heard = say(relay, {name: lambda name=name: speak(name) for name in "abc"})
    assert all(totals == [3 * k for k in range(300)] for totals in heard.values())
    assert relay.opened == 300


def test_a_sum_that_no_memory_holds_is_its_announcer_s_fault():
    """It would else end the run as a fault of ours, for everybody."""
    relay = Relay(plan_of("a", "b", "c", deadline_seconds=5))
    heard = say(
        relay,
        {
            "a": lambda: relay.add("a", header(relay, length=1 << 48), []),
            "b": lambda: relay.add("b", header(relay), [ones()]),
        },
    )
    assert isinstance(heard["a"], Refused)
    assert isinstance(heard["b"], Lost)
    assert relay.culprits == {"a": f"announced {1 << 48} words, more than memory holds"}
