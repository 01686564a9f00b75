"""A disk without room, for real: a small tmpfs under a folder of the state; then there is room again."""

import errno
import json
import os
import shutil
import subprocess
from contextlib import contextmanager

import pytest

from feature_store.importing import import_events
from feature_store.partitions import Store
from feature_store.sources import Columns, Source
from federation.files import save
from federation.messages import to_message
from federation.plan import RoundPlan
from federation.summed import Summed

ROOM = 65_536
"""Kilobytes that are enough."""


@contextmanager
def small_disk(folder, kilobytes):
    """A disk of its own at `folder`; skips where this user may not mount one."""
    folder.mkdir(parents=True, exist_ok=True)
    mount = ["mount", "-t", "tmpfs", "-o", f"size={kilobytes}k,mode=0700", "tmpfs", folder]
    if os.getuid() != 0 or subprocess.run(mount, capture_output=True).returncode != 0:
        pytest.skip("mounting a tmpfs takes root")
    try:
        yield
    finally:
        subprocess.run(["umount", folder], check=True)


def resize(folder, kilobytes):
    remount = ["mount", "-o", f"remount,size={kilobytes}k", folder]
    subprocess.run(remount, check=True)


def test_an_import_that_has_no_room_says_so_wherever_it_was(tmp_path):
    (tmp_path / "e.csv").write_text(
        "u,i,t\n" + "".join(f"u{row},i{row},2020-01-{1 + row % 31:02}\n" for row in range(4000))
    )
    source = Source(path=str(tmp_path / "e.csv"), columns=Columns(user="u", item="i", time="t"))
    failed = []
    for kilobytes in range(40, 400, 12):
        with small_disk(tmp_path / f"{kilobytes}", kilobytes):
            try:
                assert import_events(Store(tmp_path / f"{kilobytes}"), "shop", source).added_rows == 4000
            except OSError as error:
                failed.append(error.errno)
    assert 5 < len(failed) < 25
    assert set(failed) == {errno.ENOSPC}


@pytest.mark.slow
def test_a_full_disk_is_told_and_the_run_goes_on_when_there_is_room(tiny, prefect_url, chorus, tmp_path):
    path, home = tiny("tiny", f"prefect_api_url: {prefect_url}"), tmp_path / "state" / "tiny"
    with small_disk(home / "participants" / "east", 96), small_disk(home / "coordinator", ROOM):
        figures = []
        for disk, kilobytes, code, told in (
            ("participants/east", 96, 4, "missing: east: No space left on device"),  # in its import
            ("participants/east", None, 4, "missing: east: No space left on device"),  # in its work
            ("coordinator", None, 1, "chorus: No space left on device"),  # with an opened sum
        ):
            resize(home / disk, kilobytes or shutil.disk_usage(home / disk).used // 1024 + 12)
            known = {*home.glob("coordinator/runs/*")}
            failed = chorus("run", path, code=code)
            assert told in failed.stderr
            assert "Traceback" not in failed.stderr
            resize(home / disk, ROOM)
            (run,) = {*home.glob("coordinator/runs/*")} - known
            chorus("resume", run.name, path, "--json", tmp_path / "figures.json")
            figures.append(json.loads((tmp_path / "figures.json").read_text()))
    assert [each["model_version"] for each in figures] == [1, 2, 3]
    assert figures[0]["overall"]["consortium"]["ndcg_at_10"] > 0
    assert all(each["overall"]["consortium"] == figures[0]["overall"]["consortium"] for each in figures)


def test_what_the_disk_had_no_room_for_leaves_what_was_there(tmp_path):
    disk = tmp_path / "disk"
    with small_disk(disk, 64):
        save(disk / "a.npy", [1, 2])
        before = (disk / "a.npy").read_bytes()
        with pytest.raises(OSError, match="No space left") as full:
            save(disk / "a.npy", [0] * 100_000)
        assert to_message(full.value)["message"].startswith("No space left on device")
        assert (disk / "a.npy").read_bytes() == before


def test_a_cohort_that_could_not_be_noted_is_not_remembered_either(tmp_path):
    """Else the term would leave when it is asked for again, without a note of among whom."""
    plan = RoundPlan(run="r", number=0, cohort=("a", "b", "c"), deadline_seconds=9.0, seed=0)
    (tmp_path / "r").write_text("in the way of the folder")
    summed = Summed(tmp_path)
    with pytest.raises(OSError, match="exists"):
        summed.note(plan, "gather", plan.cohort)
    assert summed.cohort(plan, "gather") is None
