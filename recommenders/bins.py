"""The same bins for everybody: from agreed representatives, never from anyone's own values.

LightGBM bins a data set like a reference data set.  The reference is made of the representatives: of a
numerical column the consortium's quantiles, of a categorical one the agreed list.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, ValidationError, model_validator

from federation.channel import Channel
from federation.errors import BadInput
from federation.frozen import Frozen
from federation.sketch import quantiles

if TYPE_CHECKING:
    import lightgbm

Matrix = NDArray[np.float64]

BINNING: dict[str, Any] = {
    "min_data_in_bin": 1,
    "feature_pre_filter": False,
    "enable_bundle": False,
    "bin_construct_sample_cnt": 1 << 30,
    "data_random_seed": 1,
    "verbosity": -1,
}
"""LightGBM's defaults spoil a reference of a few hundred rows: they drop features and join bins."""


class Column(Frozen):
    """A feature: its name and what its bins are built from."""

    name: Annotated[str, Field(min_length=1, pattern=r'^[^\s"\[\]{},:]+$')] = Field(
        description="name in the model"
    )
    values: Annotated[tuple[float, ...], Field(min_length=1)] = Field(
        description="rising representatives: agreed quantiles, or the categories' numbers"
    )
    categorical: bool = Field(default=False, description="whether the values are categories")

    @model_validator(mode="after")
    def _in_order(self) -> "Column":
        values = np.array(self.values)
        if (np.diff(values) <= 0).any():
            raise ValueError(f"{self.name}: representatives must rise")
        if self.categorical and ((values < 0) | (values != np.floor(values)) | (values >= 2**31)).any():
            raise ValueError(f"{self.name}: categories are whole numbers from 0")
        return self


class Bins(Frozen):
    """What all participants bin by, and the model's features in order."""

    columns: Annotated[tuple[Column, ...], Field(min_length=1)] = Field(description="features in order")
    max_bin: Annotated[int, Field(ge=2, le=65535)] = Field(default=255, description="most bins of a feature")

    @model_validator(mode="after")
    def _few_enough(self) -> "Bins":
        names = [column.name for column in self.columns]
        if len(set(names)) != len(names):
            raise ValueError("two features have the same name")
        for column in self.columns:
            if column.categorical and len(column.values) > self.max_bin - 1:
                raise ValueError(
                    f"{column.name}: found {len(column.values)} categories, expected {self.max_bin - 1} or "
                    f"fewer with max_bin {self.max_bin}"
                )
        return self

    @property
    def categorical(self) -> list[int]:
        """Positions of the categorical features."""
        return [place for place, column in enumerate(self.columns) if column.categorical]

    @property
    def parameters(self) -> dict[str, Any]:
        """LightGBM's parameters that bins depend on."""
        return {**BINNING, "max_bin": self.max_bin}

    def reference(self, parameters: dict[str, Any]) -> "lightgbm.Dataset":
        """The data set of the representatives; its last row is missing everywhere."""
        rows = max(len(column.values) for column in self.columns) + 1
        values = np.full((rows, len(self.columns)), np.nan)
        for place, column in enumerate(self.columns):
            values[:-1, place] = np.resize(np.array(column.values), rows - 1)
        return self._construct(values, np.zeros(rows), {**parameters, **self.parameters}, None)

    def dataset(self, features: Matrix, parameters: dict[str, Any]) -> "lightgbm.Dataset":
        """`features` (n, f), binned.  Raises `BadInput` on another shape or on infinite values."""
        check_features(features, len(self.columns))
        parameters = {**parameters, **self.parameters}
        return self._construct(features, np.zeros(len(features)), parameters, self.reference(parameters))

    def _construct(
        self, values: Matrix, labels: Matrix, parameters: dict[str, Any], reference: "lightgbm.Dataset | None"
    ) -> "lightgbm.Dataset":
        import lightgbm  # of the commands only those that train wait for it

        return lightgbm.Dataset(
            values,
            labels,
            reference=reference,
            params=parameters,
            feature_name=[column.name for column in self.columns],
            categorical_feature=self.categorical,
        ).construct()


def check_features(features: Matrix, columns: int) -> None:
    """Raise `BadInput` unless `features` is (n, columns), float64, with NaN for missing and no infinity."""
    if features.ndim != 2 or features.shape[1] != columns or features.dtype != np.float64:
        raise BadInput(f"expected float64 features (n, {columns}), found {features.dtype} {features.shape}")
    if np.isinf(features).any():
        raise BadInput("features must be finite or missing, found infinite values")


def agree(
    channel: Channel,
    features: Matrix,
    names: Sequence[str],
    categories: Mapping[str, Sequence[int]] | None = None,
    max_bin: int = 255,
) -> Bins:
    """The consortium's bins for `features` (n, f): quantiles of every column, from sums.

    `categories` are agreed lists; a column that is named there is categorical, and a category outside its
    list counts as missing.  Cells of the sketch that hold a quarter of a bin's rows are not cut further.
    Raises `BadInput` where there are no rows, and for categories that are not in order or too many.
    """
    check_features(features, len(names))
    if not len(features):
        raise BadInput("a participant without rows cannot take part")
    lists = {} if categories is None else {name: tuple(map(float, rest)) for name, rest in categories.items()}
    numbers = [place for place, name in enumerate(names) if name not in lists]
    wanted = (np.arange(max_bin - 2) + 0.5) / (max_bin - 2)
    if numbers:
        tolerance = 0.25 / max_bin
        named, values = [names[place] for place in numbers], features[:, numbers]
        found = quantiles(channel, values, wanted, tolerance=tolerance, names=named, label="bins").values
        lists |= {name: _rising(row) for name, row in zip(named, found, strict=True)}
    try:
        columns = tuple(
            Column(name=name, values=lists[name], categorical=place not in numbers)
            for place, name in enumerate(names)
        )
        return Bins(columns=columns, max_bin=max_bin)
    except ValidationError as error:
        raise BadInput(error.errors()[0]["msg"].removeprefix("Value error, ")) from None


def _rising(values: Matrix) -> tuple[float, ...]:
    """Each once and in order; a column without values has the representative 0."""
    return tuple(np.unique(values[~np.isnan(values)]).tolist()) or (0.0,)
