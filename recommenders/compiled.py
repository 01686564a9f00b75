"""Functions compiled to machine code, with their types kept for the checker."""

from collections.abc import Callable
from typing import TypeVar, cast

import numba

Function = TypeVar("Function", bound=Callable[..., object])


def compiled(function: Function) -> Function:
    """`function` in machine code, compiled at its first call and kept beside its source.

    It lets other threads run.  What is divided by zero becomes infinite or not a number, as in NumPy: a
    loop with an exception in it would go one value at a time.
    """
    return cast(Function, numba.njit(cache=True, nogil=True, error_model="numpy")(function))
