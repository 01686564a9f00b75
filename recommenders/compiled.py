"""Functions compiled to machine code, with their types kept for the checker."""

from collections.abc import Callable
from typing import TypeVar, cast

import numba

Function = TypeVar("Function", bound=Callable[..., object])


def compiled(function: Function) -> Function:
    """`function` in machine code, compiled at its first call and kept beside its source.

    It lets other threads run, and its exp and log are the C library's, one value at a time: the bits of
    a result do not depend on where in a vector it stands.
    """
    return cast(Function, numba.njit(cache=True, nogil=True)(function))
