"""
What is wrong with a journal at the moment, logged where it changes.
"""

from __future__ import annotations

from typing import Generic, TypeVar

from twisted.logger import Logger

__all__ = ["HasProblem"]

_log = Logger()


E = TypeVar("E", bound=Exception)


class HasProblem(Generic[E]):
    """
    The part of a journal that works or does not.

    :param journal: the journal, for the log.
    :ivar problem: what is wrong; ``None`` while it works.
    """

    def __init__(self, journal: object) -> None:
        self.problem: E | None = None
        self._journal = journal

    def note(self, problem: E | None) -> None:
        """
        Record whether the journal works, and log a change.
        """
        if problem is None and self.problem is not None:
            _log.info("{journal} works again", journal=self._journal)
        elif problem is not None and self.problem is None:
            _log.error("{problem}", problem=str(problem))
        self.problem = problem
