"""
Parts of the indexes of retained updates: by topic, and by position.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator

from txsse.journal.retained import size_under_one_topic
from txsse.journal.update import Update

__all__ = ["GONE", "KeysOfTopic", "length_of", "positions_after", "size_of"]


# A list of positions is not compacted before more than this number of them are no longer used.
GONE = 64


class KeysOfTopic:
    """
    The retained updates of a topic.

    :ivar positions: their positions in ascending order, among others that are no longer used.
    :ivar keys: the position of each key, in ascending order of the positions.
    :ivar length: the length of the topic's name, in bytes.
    """

    __slots__ = ("keys", "length", "positions")

    def __init__(self, length: int) -> None:
        self.length = length
        self.positions: list[int] = []
        self.keys: dict[str, int] = {}

    def compact(self) -> None:
        """
        Remove the positions that are no longer used, if they are many.
        """
        if len(self.positions) > 2 * len(self.keys) + GONE:
            self.positions = list(self.keys.values())

    def after(self, after: int) -> Iterator[int]:
        """
        Return the positions after one, among others that are no longer used. There is at least one key.
        """
        return positions_after(self.positions, after, self.keys.values())


def size_of(update: Update, key: str) -> int:
    """
    Return the size of an update under one topic, without the topic's name; 0 for one that removes a key.
    """
    if update.unretains:
        return 0
    # The line with its ID is not stored.
    return size_under_one_topic(key, len(update.frame) - len("id: \n") - length_of(update.id))


def length_of(text: str) -> int:
    """
    Return the length of a text, in bytes of UTF-8.
    """
    return len(text) if text.isascii() else len(text.encode())


def positions_after(positions: list[int], after: int, used: Iterable[int]) -> Iterator[int]:
    """
    Return the positions of an ascending list that are after one.

    :param used: those that are still used, in the same order. From the beginning, only these are returned:
        to step over 100,000 others takes 20 ms, which each newcomer would cost.
    """
    if after < next(iter(used), 0):
        return iter(used)
    return (positions[index] for index in range(bisect_right(positions, after), len(positions)))
