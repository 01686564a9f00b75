"""Histories of made-up users."""

import numpy as np

from recommenders.interactions import Interactions


def happened(users, items, item_count):
    users, items = np.array(users, np.int32), np.array(items, np.int32)
    times = np.arange(len(users), dtype=np.int64)
    return Interactions(users, items, times, int(users.max(initial=-1)) + 1, item_count)
