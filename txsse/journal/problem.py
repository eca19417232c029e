"""
The current problem of a journal, logged when it begins and when it ends.
"""

from __future__ import annotations

from typing import Generic, TypeVar

from twisted.logger import Logger

__all__ = ["HasProblem"]

_log = Logger()


E = TypeVar("E", bound=Exception)


class HasProblem(Generic[E]):
    """
    Base class for the part of a journal that can fail: it holds the current problem.

    :param journal: the journal, for the log.
    :ivar problem: the current problem; ``None`` while the journal works.
    """

    def __init__(self, journal: object) -> None:
        self.problem: E | None = None
        self._journal = journal

    def note(self, problem: E | None) -> None:
        """
        Set or clear the problem. Log the change if the journal begins to fail or works again.
        """
        if problem is None and self.problem is not None:
            _log.info("{journal} works again", journal=self._journal)
        elif problem is not None and self.problem is None:
            _log.error("{problem}", problem=str(problem))
        self.problem = problem
