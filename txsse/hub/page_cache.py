"""
A cache of journal pages, for many clients that resume at about the same time, such as after a restart.

Strategy: the frames that a subscriber may receive of a page are joined and framed once for all subscribers
that may receive the same ones. Which ones those are follows from the *kinds* of updates in the page, by
topics and privacy: there are fewer kinds than updates.
"""

from __future__ import annotations

from collections.abc import Generator
from itertools import compress
from typing import TypeAlias

from twisted.internet.interfaces import IReactorTime

from txsse.hub.rights import seek
from txsse.hub.subscriber import Subscriber
from txsse.journal.page import Page
from txsse.journal.update import Update
from txsse.journal.window import PAGE_BYTES
from txsse.server.sinks.base import Framed
from txsse.topics.topic_set import weight_of

__all__ = ["PageKey", "SharedPage", "SharedPages"]

#: The position after which a page begins; and the journal's head if that is the oldest update, which changes.
PageKey: TypeAlias = tuple[int, int | None]

# How many pages are kept, their maximum size, and for how many audiences each is framed: some 20 MiB in all.
_PAGES = 16
_MAX_SIZE = 2 * PAGE_BYTES
_AUDIENCES = 4

# For how many sets of patterns a page keeps which kinds they select, and the maximum weight of these
# patterns, in tenths of a KiB: the page keeps patterns in memory whose subscribers have disconnected.
_PATTERNS = 64
_PATTERNS_WEIGHT = 20_000

# How long a page is kept, in seconds. Updates that the journal drops meanwhile are still sent.
_SECONDS = 1.0


# A kind of updates: their topics, and whether they are private. All updates of a kind have the same audience.
_Kind = tuple[tuple[str, ...], bool]


class SharedPage:
    """
    A page, with its frames for each audience.

    :ivar size: how many bytes the frames of its updates are.
    """

    def __init__(self, page: Page) -> None:
        self.page = page
        self.size = sum(len(update.frame) for _, update in page.entries)
        self._kinds: dict[_Kind, Update] = {_kind_of(update): update for _, update in page.entries}
        self._made: dict[tuple[bool, ...], tuple[Framed, int]] = {}
        self._known: dict[object, tuple[bool, ...]] = {}
        self._known_weight = 0

    def frames_for(self, subscriber: Subscriber) -> Generator[None, None, tuple[Framed, int]]:
        """
        Return the frames that a subscriber may receive, and their number, in steps.
        """
        if subscriber.earlier:
            # Its topics have changed within this page or after it, which no other subscriber shares.
            return (yield from self._frames_by_position(subscriber))
        return self.frames_of((yield from self.allowed_for(subscriber)))

    def _frames_by_position(self, subscriber: Subscriber) -> Generator[None, None, tuple[Framed, int]]:
        earlier, now = subscriber.earlier, (subscriber.topics, subscriber.private)
        allowed: dict[tuple[_Kind, int], bool] = {}
        frames: list[bytes] = []
        for position, update in self.page.entries:
            # A topic is sent if the subscriber has had it ever since the update.
            since = [each for each in earlier if each.up_to is not None and position <= each.up_to]
            key = _kind_of(update), len(since)
            if key not in allowed:
                allowed[key] = True
                for topics, private in (now, *((each.topics, each.private) for each in since)):
                    if not (yield from seek(topics, private, update)):
                        allowed[key] = False
                        break
                yield
            if allowed[key]:
                frames.append(update.frame)
        return Framed(b"".join(frames)), len(frames)

    def frames_of(self, allowed: tuple[bool, ...]) -> tuple[Framed, int]:
        """
        Return the frames of some kinds of updates, and their number.

        :param allowed: the result of :meth:`allowed_for`.
        """
        made = self._made.get(allowed)
        if made is None:
            made = self._frame(allowed)
            if len(self._made) < _AUDIENCES:
                self._made[allowed] = made
        return made

    def allowed_for(self, subscriber: Subscriber) -> Generator[None, None, tuple[bool, ...]]:
        """
        Return which kinds of updates a subscriber may receive, in steps.

        Subscribers with the same topics and patterns share the result, so that each pattern is matched once.
        """
        topics, private = subscriber.topics, subscriber.private
        selectors = (*topics.selectors, *private.selectors)
        if not selectors:
            return tuple(map(subscriber.may_have, self._kinds.values()))
        key = (topics.key, private.key)
        known = self._known.get(key)
        if known is not None:
            return known
        found = []
        for update in self._kinds.values():
            found.append((yield from subscriber.seek(update)))
            yield
        allowed = tuple(found)
        if key not in self._known and len(self._known) < _PATTERNS:
            weight = sum(map(weight_of, selectors))
            if self._known_weight + weight <= _PATTERNS_WEIGHT:
                self._known_weight += weight
                self._known[key] = allowed
        return allowed

    def _frame(self, allowed: tuple[bool, ...]) -> tuple[Framed, int]:
        kinds = set(compress(self._kinds, allowed))
        frames = [update.frame for _, update in self.page.entries if _kind_of(update) in kinds]
        return Framed(b"".join(frames)), len(frames)


def _kind_of(update: Update) -> _Kind:
    return update.topics, update.private


class SharedPages:
    """
    Keeps the pages that were read last.

    :param reactor: the reactor.
    """

    def __init__(self, reactor: IReactorTime) -> None:
        self._reactor = reactor
        # Each page with the time when it expires.
        self._pages: dict[PageKey, tuple[float, SharedPage]] = {}

    def find(self, key: PageKey) -> SharedPage | None:
        """
        Return a page; ``None`` if it is not in the cache.
        """
        found = self._pages.get(key)
        if found is None:
            return None
        until, shared = found
        if self._reactor.seconds() < until:
            return shared
        del self._pages[key]
        return None

    def add(self, key: PageKey, shared: SharedPage) -> None:
        """
        Keep a page, which must not change any more: it ends before the journal's head.
        """
        if shared.size <= _MAX_SIZE:
            if len(self._pages) >= _PAGES:
                del self._pages[next(iter(self._pages))]
            self._pages[key] = self._reactor.seconds() + _SECONDS, shared

    def clear(self) -> None:
        """
        Drop all pages.
        """
        self._pages.clear()
