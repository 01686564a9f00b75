"""A lock that is handed from thread to thread in order, with a condition on it."""

import threading
from collections import deque

_FREE, _HANDED_ON = 0, -1
"""Owners that are no thread: nobody, and the next in line, which has not woken up yet."""


class Turns:
    """As `threading.Condition`, but nobody fights for the lock: who has it hands it to the next in line.

    All whom `notify_all` wakes get in line, and each sleeps on until the lock is its own.  A thread that
    has the lock may enter again.
    """

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._owner, self._depth = _FREE, 0
        self._line: deque[threading.Lock] = deque()
        self._waiting: list[threading.Lock] = []

    def __enter__(self) -> None:
        if self._owner != threading.get_ident():
            self._take(_bell())
        self._depth += 1

    def __exit__(self, *_: object) -> None:
        self._depth -= 1
        if not self._depth:
            self._hand_on()

    def wait(self, timeout: float) -> None:
        """Let others go on until `notify_all`, or for `timeout` seconds, and then until one's turn."""
        bell, depth, self._depth = _bell(), self._depth, 0
        with self._guard:
            self._waiting.append(bell)
        self._hand_on()
        if bell.acquire(timeout=min(max(timeout, 0.0), threading.TIMEOUT_MAX)):
            self._owner = threading.get_ident()
        else:
            self._give_up(bell)
        self._depth = depth

    def notify_all(self) -> None:
        """All who wait get in line."""
        with self._guard:
            self._line.extend(self._waiting)
            self._waiting.clear()

    def _take(self, bell: threading.Lock) -> None:
        with self._guard:
            free = self._owner == _FREE
            if free:
                self._owner = _HANDED_ON
            else:
                self._line.append(bell)
        if not free:
            bell.acquire()
        self._owner = threading.get_ident()

    def _give_up(self, bell: threading.Lock) -> None:
        """Get in line although nobody woke this thread; somebody may have done so just now."""
        with self._guard:
            late = bell in self._waiting
            if late:
                self._waiting.remove(bell)
        if late:
            self._take(bell)
        else:
            bell.acquire()
            self._owner = threading.get_ident()

    def _hand_on(self) -> None:
        with self._guard:
            self._owner = _HANDED_ON if self._line else _FREE
            if self._line:
                self._line.popleft().release()


def _bell() -> threading.Lock:
    """A lock that is taken: it is released, once, to wake who waits for it."""
    bell = threading.Lock()
    bell.acquire()
    return bell
