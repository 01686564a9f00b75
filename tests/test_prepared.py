"""What a participant knows when a part of the split begins."""

from dataclasses import replace
from pathlib import Path

import numpy as np

from flows.consortium import read_consortium
from tasks.room import Room

CONSORTIUM = """
name: late
participants:
  - &shop
    name: east
    events: {path: east.csv, columns: {user: u, item: i, time: t, known_time: k}}
  - {<<: *shop, name: north}
  - {<<: *shop, name: south}
"""


def test_what_became_known_later_is_not_known_before(tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text(CONSORTIUM)
    (tmp_path / "catalogue.txt").write_text("late\nnew\nold\n")
    (tmp_path / "east.csv").write_text(
        "u,i,t,k\na,old,2020-01-01,2020-01-01\na,late,2020-01-02,2020-05-01\na,new,2020-04-01,2020-04-01\n"
        "b,new,2020-04-02,2020-06-02\n"
        "b,old,2020-01-03,\nb,late,2020-07-01,\n"
    )
    consortium = read_consortium(tmp_path / "c.yaml")
    membership = consortium.membership(consortium.participants[0])
    room = Room(tmp_path / "east", membership.model_copy(update={"catalogue": tmp_path / "catalogue.txt"}))
    prepared = room.prepared(room.import_all().version, ("2020-03-01", "2020-06-01"))

    assert np.bincount(prepared.before(1).items, minlength=3).tolist() == [0, 0, 2]
    assert np.bincount(prepared.before(2).items, minlength=3).tolist() == [1, 1, 2]
    asked = prepared.queries(1)
    assert (asked.users.tolist(), asked.seen_items.tolist(), asked.relevant_items.tolist()) == ([0], [2], [1])
    assert prepared.queries(2).users.tolist() == [1]
    for moments, parts in (((), ([1], [2])), ((1, 2), ([1], [2])), ((1, 2, 3, 4), ([1, 2, 3], [4]))):
        found = replace(prepared, moments=moments)
        assert tuple([*found.opened_in(number)] for number in (0, 1)) == parts  # none is opened twice
