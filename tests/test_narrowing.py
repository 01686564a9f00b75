from pathlib import Path

import pyarrow as pa
import pytest
from event_rows import IDS, bad, table, written

from feature_store.errors import BadData
from feature_store.narrowing import Aliases, PartOfUsers
from feature_store.sources import Source


def test_one_file_serves_several_organisations_under_common_ids(tmp_path: Path) -> None:
    links = written(tmp_path, "links.csv.gz", "own,common\n1,0001\n2,0002\n")
    source = Source(
        path=written(tmp_path, "e.csv", "u,i\n" + "".join(f"u{user},{user % 3}\n" for user in range(60))),
        columns=IDS,
        aliases=Aliases(path=links, own="own", common="common"),
    )
    parts = [
        table(source.model_copy(update={"users": PartOfUsers(number=number, of=3)})) for number in range(3)
    ]
    users = [set(part["user"].to_pylist()) for part in parts]
    assert all(users)
    assert sorted(user for part in users for user in part) == sorted(f"u{user}" for user in range(60))
    assert set(pa.concat_tables(parts)["item"].to_pylist()) == {None, "0001", "0002"}
    found = bad(source.path, columns=IDS, aliases={"path": links, "own": "x", "common": "y"})
    assert "links.csv.gz: expected a csv file with columns 'x' and 'y'" in found


def test_aliases_without_a_common_id_are_none_and_with_two_are_refused(tmp_path: Path) -> None:
    path = written(tmp_path, "e.csv", "u,i\na,1\nb,2\nc,\nd,3\n")
    links = written(tmp_path, "links.csv", 'own,common\n1,\n,0003\n2,0002\n2,0002\n3,"a\nb"\n')
    source = Source(path=path, columns=IDS, aliases=Aliases(path=links, own="own", common="common"))
    assert table(source)["item"].to_pylist() == [None, "0002", None, None]
    written(tmp_path, "links.csv", "own,common\n1,0001\n2,0002\n2,0001\n")
    with pytest.raises(BadData, match=r"found an id of column 'own' with several of 'common'.*; found 2"):
        table(source)


def test_aliases_that_leave_one_out_unsaid_are_refused(tmp_path: Path) -> None:
    path = written(tmp_path, "e.csv", "u,i\na,1\n")
    for text, told in [
        ('own,common\n1,"0001\n2,0002\n', "links.csv: expected a readable csv file; found unexpected end"),
        ("own,common\n1,0001\n2\n", "links.csv, line 3: found 1 cells, expected 2"),
        ("own,common,own\n1,0001,2\n", "with columns 'own' and 'common'; found own, common, own"),
    ]:
        aliases = {"path": written(tmp_path, "links.csv", text), "own": "own", "common": "common"}
        assert told in bad(path, columns=IDS, aliases=aliases)
    same = Aliases(path=written(tmp_path, "links.csv", "own\n1\n"), own="own", common="own")
    assert table(Source(path=path, columns=IDS, aliases=same))["item"].to_pylist() == ["1"]
