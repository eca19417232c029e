"""
Records of a journal that cannot be read: counted, and logged without their content.
"""

from __future__ import annotations

from twisted.logger import Logger

__all__ = ["Damage"]

_log = Logger()

# How many records are told apart, so that each is counted once, however often it is read; and how many are
# logged.
_REMEMBERED = 10_000
_LOGGED = 20


class Damage:
    """
    What a journal found that it could not read.

    :param journal: the journal, for the log.
    :ivar count: how many records; each counts once, unless many others were found in between.
    """

    def __init__(self, journal: object) -> None:
        self.count = 0
        self._journal = journal
        # Keys without values: a set that keeps its order.
        self._known: dict[int, None] = {}

    def found(self, number: int, name: str) -> None:
        """
        Count a record, and log it, unless it is known.

        :param name: what the journal calls it. Nothing of its content: it may be private.
        """
        if number in self._known:
            return
        if len(self._known) >= _REMEMBERED:
            del self._known[next(iter(self._known))]
        self._known[number] = None
        self.count += 1
        if self.count <= _LOGGED:
            _log.error(
                "{journal}: the update at {name} is damaged and is skipped; clients that would get it "
                "are sent stream-reset instead",
                journal=self._journal,
                name=name,
            )
        if self.count == _LOGGED:
            _log.error(
                "{journal}: further damaged updates are counted, and not logged", journal=self._journal
            )
