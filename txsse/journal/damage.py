"""
Counts and logs the records of a journal that cannot be read, without their content.
"""

from __future__ import annotations

from twisted.logger import Logger

__all__ = ["Damage"]

_log = Logger()

# How many records are remembered, so that each is counted once, however often it is read; and how many are
# logged, so that a badly damaged journal does not fill the log.
_REMEMBERED = 10_000
_LOGGED = 20


class Damage:
    """
    The records that a journal could not read.

    :param journal: the journal, for the log.
    :ivar count: the number of records. Each counts once, unless it is found again after 10,000 others.
    """

    def __init__(self, journal: object) -> None:
        self.count = 0
        self._journal = journal
        # Keys without values: a set that keeps its order.
        self._known: dict[int, None] = {}

    def found(self, number: int, name: str) -> None:
        """
        Count and log a damaged record, unless it is already known.

        :param number: identifies the record.
        :param name: the journal's name for the record, without any of its content, which may be private.
        """
        if number in self._known:
            return
        if len(self._known) >= _REMEMBERED:
            del self._known[next(iter(self._known))]
        self._known[number] = None
        self.count += 1
        if self.count <= _LOGGED:
            _log.error(
                "{journal}: the update at {name} is damaged and is skipped; clients that would receive it "
                "are sent stream-reset instead",
                journal=self._journal,
                name=name,
            )
        if self.count == _LOGGED:
            _log.error(
                "{journal}: further damaged updates are counted, but not logged", journal=self._journal
            )
