"""Whether the parts of a `consortium.yaml` fit together: each check raises `ValueError` with what to mend."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from flows.consortium import Consortium


def participants_fit(consortium: "Consortium") -> None:
    """Names differ, there are as many as sums and the gate need, and the truth is told of all or none."""
    names = [each.name for each in consortium.participants]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ValueError(f"participants: '{twice[0]}' is named twice")
    if len(names) < consortium.rounds.minimum:
        raise ValueError(
            f"rounds.minimum is {consortium.rounds.minimum}, but there are {len(names)} participants; a sum "
            "of two shows each the other's part, so two need rounds.minimum: 2 and agreed_to_two: true"
        )
    if (fewest := consortium.gate.fewest or 0) > len(names):
        raise ValueError(f"gate.fewest is {fewest}, but there are {len(names)} participants")
    if len({each.reachable is None or each.is_remote for each in consortium.participants}) > 1:
        raise ValueError(
            "participants: found reachable of some, expected it of all, none of whom connects, or of none"
        )


def words_have_room(consortium: "Consortium") -> None:
    """A sum of everybody's changes fits the words in which it travels."""
    exchange, many = consortium.model.sequence.exchange, len(consortium.participants)
    if consortium.model.kind == "sequence" and many > exchange.largest_cohort:
        raise ValueError(
            f"model.sequence.exchange.bits: found {exchange.bits}, which have room for the changes of "
            f"{exchange.largest_cohort} participants; expected more for {many}"
        )


def coordinator_is_found(consortium: "Consortium") -> None:
    """Who connects from another machine knows where to."""
    if consortium.coordinator is None and consortium.remote:
        raise ValueError(
            f"coordinator: found none, expected the address at which {consortium.remote[0]} connects, and "
            "the certificate by which it knows who answers there"
        )


def one_says_when(consortium: "Consortium") -> None:
    """Either a cron line or a policy says when to train."""
    if consortium.schedule.cron is not None and consortium.frequency.policy.kind != "periodic":
        raise ValueError(
            f"schedule.cron and frequency.policy {consortium.frequency.policy.kind} both say when to train; "
            "expected one of them"
        )


def ranker_needs_times(consortium: "Consortium") -> None:
    """Two stages learn from what was had after a moment."""
    if consortium.model.kind == "two_stage" and consortium.split.kind != "temporal":
        raise ValueError(
            f"model.kind: two_stage learns from what was had after a moment, so it needs split.kind: "
            f"temporal, found {consortium.split.kind}; or set model.kind: item_to_item"
        )


def exploring_needs_times(consortium: "Consortium") -> None:
    """What was had after it was shown follows from times."""
    for each in consortium.participants:
        if consortium.explore.places and each.events and each.events.columns.time is None:
            raise ValueError(
                f"participants.{each.name}.events.columns.time: found none, expected the column of "
                "times, by which explore.places learns what was had after it was shown"
            )


def content_is_read(consortium: "Consortium") -> None:
    """The file of embeddings and the columns that are read of it come together."""
    named = consortium.model.content if consortium.model.reads_content else ()
    if named and consortium.content is None:
        raise ValueError(
            f"content: found none, expected the file that has the column {named[0]!r}, which "
            "model.content names"
        )
    if consortium.content is not None and not named:
        raise ValueError(
            f"content: found {consortium.content}, which nothing reads; expected model.kind: two_stage or "
            "sequence, and the file's columns of embeddings in model.content"
        )


def split_finds_what_it_needs(consortium: "Consortium") -> None:
    """A cut in time needs times, a given split somebody's test."""
    for each in consortium.participants:
        if consortium.split.kind == "temporal" and each.events and each.events.columns.time is None:
            raise ValueError(
                f"participants.{each.name}.events.columns.time: found none, expected the column of "
                "times, by which split.kind: temporal cuts; or set split.kind: leave-last-out"
            )
    if consortium.split.kind == "given" and not any(
        each.test or each.is_remote for each in consortium.participants
    ):
        raise ValueError(
            "participants: found no test of anybody, expected the test events of split.kind: given"
        )


CHECKS = (
    participants_fit,
    words_have_room,
    coordinator_is_found,
    one_says_when,
    ranker_needs_times,
    exploring_needs_times,
    content_is_read,
    split_finds_what_it_needs,
)
"""In the order in which a file is judged."""
