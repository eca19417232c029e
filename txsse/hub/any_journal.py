"""
The type of a hub's journal, for type checkers that do not know zope.interface: see :mod:`txsse._typing`. The
contract is that of :class:`~txsse.IJournal`.
"""

from __future__ import annotations

from typing import Protocol, TypeAlias

from twisted.internet.defer import Deferred

from txsse.hub.entry import Page
from txsse.hub.journal import IFollower, IJournal
from txsse.hub.update import Update

__all__ = ["AnyJournal"]


class _Journal(Protocol):
    @property
    def head(self) -> int: ...

    @property
    def problem(self) -> Exception | None: ...

    @property
    def damaged(self) -> int: ...

    def start(self, follower: IFollower, /) -> Deferred[None]: ...

    def append(self, update: Update, /) -> Deferred[int]: ...

    def find(self, id: str, /) -> Deferred[int | None]: ...

    def at(self, position: int, /) -> Deferred[Update | None]: ...

    def read(self, after: int, /) -> Deferred[Page]: ...

    def last_id(self) -> Deferred[str | None]: ...

    def anchor(self, position: int, /) -> str: ...

    def subscribers_elsewhere(self, topic: str, /) -> Deferred[int]: ...

    def put_note(self, name: str, note: str | None, /) -> None: ...

    def notes_elsewhere(self, name: str, /) -> Deferred[list[str]]: ...

    def stop(self) -> Deferred[None]: ...


AnyJournal: TypeAlias = IJournal | _Journal
