"""LightGBM's text of a tree: read for the walk to its leaves, written with leaves of our own."""

import re
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from recommenders.bins import Bins
from recommenders.compiled import compiled

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]
Fine = NDArray[np.int32]
Leaves = NDArray[np.int32]

STUMP = """num_leaves=1
num_cat=0
split_feature=
split_gain=
threshold=
decision_type=
left_child=
right_child=
leaf_value=0
leaf_weight=
leaf_count=
internal_value=
internal_weight=
internal_count=
is_linear=0
shrinkage=1"""
"""A tree without a split."""


NEAR = 1e-9
"""How exactly LightGBM's scores tell its outputs: those up to `LARGEST` are rounded by less than 2^-33."""

LARGEST = 2.0**20

BUCKETS = 1 << 13
"""Of the outputs of leaves: so many that two leaves seldom share one, so few that they stay in the cache."""


class Tree(NamedTuple):
    """The nodes of a tree, as its text gives them; a child below 0 is the leaf ~child."""

    feature: NDArray[np.int32]
    threshold: Floats
    decision: NDArray[np.int32]
    left: NDArray[np.int32]
    right: NDArray[np.int32]
    category_starts: NDArray[np.int32]
    categories: NDArray[np.uint32]

    @property
    def leaves(self) -> int:
        """How many leaves it has."""
        return len(self.feature) + 1


def blocks(text: str) -> list[str]:
    """The trees in a model's text, each without its first line, which numbers it."""
    body = text[text.index("\nTree=") : text.index("end of trees")]
    return [part.partition("\n")[2].strip("\n") for part in body.split("\nTree=")[1:]]


def read_tree(block: str) -> Tree:
    """The nodes of a tree's text."""
    lines = dict(line.split("=", 1) for line in block.splitlines())

    def column(name: str, kind: type[np.generic]) -> NDArray[Any]:
        return np.array(lines.get(name, "").split(), kind)

    return Tree(
        column("split_feature", np.int32),
        column("threshold", np.float64),
        column("decision_type", np.int32),
        column("left_child", np.int32),
        column("right_child", np.int32),
        column("cat_boundaries", np.int32),
        column("cat_threshold", np.uint32),
    )


def any_split(trees: Sequence[str]) -> bool:
    """Whether one of the trees' texts has a split; without, all rows have one score."""
    return any(len(read_tree(tree).feature) for tree in trees)


def read_leaves(block: str) -> Floats:
    """The values in a tree's leaves."""
    line = block.partition("\nleaf_value=")[2].partition("\n")[0]
    return np.array([float(value) for value in line.split()])


def set_leaves(block: str, values: Floats) -> str:
    """The tree's text with `values` in its leaves, to 17 digits, from which they are read back exactly."""
    line = " ".join(format(value, ".17g") for value in values.tolist())
    return re.sub(r"^leaf_value=.*$", f"leaf_value={line}", block, count=1, flags=re.MULTILINE)


def model_text(blocks: Sequence[str], bins: Bins, objective: str) -> str:
    """A model that `lightgbm.Booster(model_str=...)` reads: the trees under one canonical header."""
    trees = [f"Tree={number}\n{block}\n\n\n" for number, block in enumerate(blocks)]
    return "\n".join([
        "tree",
        "version=v4",
        "num_class=1",
        "num_tree_per_iteration=1",
        "label_index=0",
        f"max_feature_idx={len(bins.columns) - 1}",
        f"objective={objective + ' sigmoid:1' if objective == 'binary' else objective}",
        f"feature_names={' '.join(column.name for column in bins.columns)}",
        f"feature_infos={' '.join(_infos(bins))}",
        f"tree_sizes={' '.join(str(len(tree)) for tree in trees)}",
        "",
        "".join(trees) + "end of trees",
        "",
        "parameters:",
        "[boosting: gbdt]",
        f"[objective: {objective}]",
        "end of parameters",
        "",
        "pandas_categorical:null",
        "",
    ])  # fmt: skip


def _infos(bins: Bins) -> list[str]:
    """What LightGBM tells of a feature: here the range, or the list, of its representatives."""
    return [
        ":".join(str(int(value)) for value in column.values)
        if column.categorical
        else f"[{column.values[0]:.17g}:{column.values[-1]:.17g}]"
        for column in bins.columns
    ]


def find_leaves(block: str, before: Floats, after: Floats, features: Floats) -> Leaves:
    """The leaf of each row of `features` (n, f), told by LightGBM's scores (n,) before and after it.

    Only where two leaves have nearly the same output, none has the row's, or the score is too large to tell,
    a row walks down the tree.
    """
    values = read_leaves(block)
    order = np.argsort(values, kind="stable").astype(np.int32)
    leaf = np.empty(len(after), np.int32)
    _nearest(before, after, values[order], order, leaf)
    unsure = np.flatnonzero(leaf < 0)
    if unsure.size:
        leaf[unsure] = walk(read_tree(block), features[unsure])
    return leaf


def require_sound(tree: Tree, outputs: Floats, features: int) -> None:
    """Raise `ValueError` where a walk down a tree that was told would not end, or read beyond memory.

    A child's node comes after its parent's, as LightGBM writes it, so that no walk goes in circles.
    """
    nodes, last = len(tree.feature), len(tree.category_starts) - 1
    sound = all(len(each) == nodes for each in (tree.threshold, tree.decision, tree.left, tree.right))
    sound = sound and len(outputs) == tree.leaves
    sound = sound and bool(((tree.feature >= 0) & (tree.feature < features)).all())
    for child in (tree.left, tree.right) if sound else ():
        inner = (child > np.arange(nodes)) & (child < nodes)
        sound = sound and bool((inner | (child < 0) & (child >= -tree.leaves)).all())
    if sound and (tree.decision & 1).any():
        which, starts = tree.threshold[tree.decision & 1 == 1], tree.category_starts
        sound = bool(((which >= 0) & (which < last)).all() and (np.diff(starts) >= 0).all())
        sound = sound and starts[0] >= 0 and starts[-1] <= len(tree.categories)
    if not sound:
        raise ValueError("found a tree that cannot be walked, expected one as LightGBM writes it")


def walk(tree: Tree, features: Floats) -> Leaves:
    """The leaf of each row of `features` (n, f), as LightGBM predicts it."""
    leaf = np.zeros(len(features), np.int32)
    if tree.leaves > 1:
        _walk(features, *tree, leaf)
    return leaf


@compiled
def _walk(
    features: Floats,
    feature: NDArray[np.int32],
    threshold: Floats,
    decision: NDArray[np.int32],
    left: NDArray[np.int32],
    right: NDArray[np.int32],
    category_starts: NDArray[np.int32],
    categories: NDArray[np.uint32],
    leaf: Leaves,
) -> None:
    for row in range(len(features)):
        node = 0
        while node >= 0:
            value, kind = features[row, feature[node]], decision[node]
            if kind & 1:
                which, goes_left = int(threshold[node]), False
                first, last = category_starts[which], category_starts[which + 1]
                if -1.0 < value < 32.0 * (last - first):  # a fraction counts as what is left of its point
                    category = int(value)
                    word = np.int64(categories[first + category // 32])
                    goes_left = (word >> (category % 32)) & 1 == 1
            elif np.isnan(value) and kind >> 2 == 2:
                goes_left = kind & 2 != 0
            else:
                goes_left = (0.0 if np.isnan(value) else value) <= threshold[node]
            node = left[node] if goes_left else right[node]
        leaf[row] = ~node


@compiled
def _nearest(before: Floats, after: Floats, values: Floats, order: Leaves, leaf: Leaves) -> None:
    """The leaf that each row's score moved by, -1 if none, several or too far to tell; `values` rise.

    The range of values is cut into buckets; a bucket in whose reach there are several is not told apart.
    """
    lowest, place = values[0] - 2.0 * NEAR, np.full(BUCKETS, -1, np.int32)
    scale = (BUCKETS - 1) / (values[-1] - values[0] + 4.0 * NEAR)
    for which in range(len(values)):
        first = int((values[which] - NEAR - lowest) * scale)
        last = int((values[which] + NEAR - lowest) * scale)
        for bucket in range(first, last + 1):
            place[bucket] = which if place[bucket] == -1 else -2
    for row in range(len(after)):
        output = after[row] - before[row]
        bucket = int((output - lowest) * scale)
        which = place[bucket] if 0 <= bucket < BUCKETS else -1
        found = which >= 0 and abs(output - values[which]) <= NEAR and abs(after[row]) <= LARGEST
        leaf[row] = order[which] if found else -1


@compiled
def add_leaves(leaf: Leaves, gradient: Fine, hessian: Fine, sums: Integers) -> None:
    """Add each row's gradient to `sums` (2 * leaves + 1) at its leaf, and its hessian a row of leaves on."""
    leaves = len(sums) // 2
    for row in range(len(leaf)):
        sums[leaf[row]] += gradient[row]
        sums[leaves + leaf[row]] += hessian[row]


@compiled
def moved_on(scores: Floats, leaf: Leaves, values: Floats) -> Floats:
    """`scores` (n,) plus the value of each row's leaf."""
    moved = np.empty_like(scores)
    for row in range(len(scores)):
        moved[row] = values[leaf[row]] + scores[row]
    return moved
