"""What every event in the store fulfils, checked on each part before it is written."""

from collections.abc import Sequence
from functools import cache

import numpy as np
import pandas as pd
import pandera.pandas as pandera
import pyarrow as pa
from pandera.errors import SchemaError

from feature_store.errors import BadData
from feature_store.partitions import PART_SCHEMA, in_order

_REQUIRED = ("user", "item", "sequence")


@cache
def clean_events() -> pandera.DataFrameSchema:
    """Types of `PART_SCHEMA`, no missing id, finite values; the order is `check_events`' own matter."""
    most = float(np.finfo(np.float64).max)
    checks = {"value": pandera.Check.in_range(-most, most), "sequence": pandera.Check.ge(0)}
    columns = {
        field.name: pandera.Column(
            pd.ArrowDtype(field.type), checks.get(field.name), nullable=field.name not in _REQUIRED
        )
        for field in PART_SCHEMA
    }
    return pandera.DataFrameSchema(columns, strict=True, ordered=True)


def check_events(tables: Sequence[pa.Table], place: str) -> None:
    """Raise `BadData`, naming `place`, unless all `tables` are clean and each is in order."""
    if not tables:
        return
    try:
        clean_events().validate(pa.concat_tables(tables).to_pandas(types_mapper=pd.ArrowDtype))
    except SchemaError as error:
        raise BadData(f"{place}: expected clean events", error) from error
    if not all(in_order(table) for table in tables):
        raise BadData(f"{place}: found events out of order, expected them by event_time, then sequence")
