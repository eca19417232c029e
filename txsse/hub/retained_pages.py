"""
Pages of retained updates, for many clients that open streams at about the same time, such as after a restart.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from math import inf
from typing import TypeAlias

from twisted.internet.interfaces import IReactorTime

from txsse._timeslice import TimeSlices
from txsse.hub.page_cache import Audience, SharedFrames, SharedPages
from txsse.hub.rights import Earlier, Restricted, may_have, seek
from txsse.journal.retained import AnyRetained, RetainedPage
from txsse.topics.topic_set import TopicSet

__all__ = ["RetainedPages", "SharedState"]

# The exact topics, or `None` for all; the position after which the page begins; and the position of the
# newest change.
_Key: TypeAlias = tuple[tuple[str, ...] | None, int, int]


class SharedState(SharedFrames):
    """
    A page of retained updates, with its frames for each audience.

    :ivar end: the position after which the next page begins.
    """

    def __init__(self, page: RetainedPage) -> None:
        super().__init__(page.entries)
        self.end = page.end


class RetainedPages:
    """
    Reads the retained updates of subscribers.

    :param retained: the retained updates of the journal; ``None`` for a journal that retains none.
    :param reactor: the reactor.
    """

    def __init__(self, retained: AnyRetained | None, reactor: IReactorTime) -> None:
        self._retained = retained
        self._shared: SharedPages[_Key, SharedState] = SharedPages(reactor)

    @property
    def is_empty(self) -> bool:
        """
        Whether it is certain that no update is retained.
        """
        return self._retained is None or self._retained.is_empty

    @property
    def changed_at(self) -> int:
        """
        The position of the newest update that has retained or removed one.
        """
        return 0 if self._retained is None else self._retained.changed_at

    async def read(self, topics: TopicSet, after: int, up_to: int) -> SharedState:
        """
        Read a page.

        :param topics: the topics that are needed. With a selector, the page may have others, too.
        :param after: the position after which it begins.
        :param up_to: the position up to which updates are needed.
        """
        assert self._retained is not None
        exact = None if topics.all or topics.selectors else topics.exact
        key = exact, after, self._retained.changed_at
        known = self._shared.find(key) if self.changed_at <= up_to else None
        if known is not None:
            return known
        page = await self._retained.read(exact, after, up_to)
        shared = SharedState(page)
        # A page that ends before the newest change may lack updates that another reader needs, and one with
        # updates that expire must not be kept.
        unchanged = self._retained.changed_at == key[2] <= up_to
        if unchanged and all(each.expires == inf for _, each in page.entries):
            self._shared.add(key, shared)
        return shared

    def forget(self) -> None:
        """
        Drop all pages of the cache.
        """
        self._shared.clear()

    async def exceeds(self, limit: int, topics: TopicSet, private: TopicSet, turns: TimeSlices) -> bool:
        """
        Return whether the retained updates that a subscriber would be sent have more bytes than a limit.

        :param topics: its topics.
        :param private: the topics whose private updates it may receive.
        :param turns: the time that this may take in each turn of the reactor.
        """
        if self.is_empty or self._retained is None or self._retained.size <= limit:
            return False
        audience: Audience = _Newcomer(topics, private)
        after, up_to, size = 0, self._retained.changed_at, 0
        while after < up_to:
            page = await self.read(topics, after, up_to)
            framed, _ = await turns.finish(page.frames_for(audience))
            if turns.is_over:
                await turns.wait()
            size += framed.size
            if size > limit:
                return True
            after = page.end
        return False


@dataclass
class _Newcomer:
    topics: TopicSet
    private: TopicSet
    earlier: tuple[Earlier, ...] = ()

    def may_have(self, update: Restricted) -> bool:
        return may_have(self.topics, self.private, update)

    def seek(self, update: Restricted) -> Generator[None, None, bool]:
        return seek(self.topics, self.private, update)
