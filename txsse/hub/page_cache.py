"""
A cache of journal pages, for many clients that resume at about the same time, such as after a restart.

Strategy: the frames that a subscriber may receive of a page are joined and framed once for all subscribers
that may receive the same ones. Which ones those are follows from the *kinds* of updates in the page, by
topics and privacy: there are fewer kinds than updates.
"""

from __future__ import annotations

from collections.abc import Generator, Hashable, Sequence
from itertools import compress
from typing import Generic, NamedTuple, Protocol, TypeAlias, TypeVar

from twisted.internet.interfaces import IReactorTime

from txsse.hub.rights import Earlier, Restricted, seek
from txsse.journal.page import Page
from txsse.journal.window import PAGE_BYTES
from txsse.server.sinks.base import Framed
from txsse.topics.topic_set import TopicSet, weight_of

__all__ = ["Audience", "PageKey", "SharedFrames", "SharedPage", "SharedPages"]

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


K = TypeVar("K", bound=Hashable)
P = TypeVar("P", bound="SharedFrames")

# A kind of updates: their topics, and whether they are private. All updates of a kind have the same audience.
_Kind = tuple[tuple[str, ...], bool]


class Item(Restricted, Protocol):
    """
    An update as it is sent: an :class:`~txsse.Update`, or one that is retained.
    """

    @property
    def frame(self) -> bytes: ...


class Audience(Protocol):
    """
    The rights by which updates are selected: those of a subscriber.

    :ivar topics: the topics that it wants.
    :ivar private: the topics whose private updates it may receive.
    :ivar earlier: the topics and grants that it had at earlier positions.
    """

    topics: TopicSet
    private: TopicSet
    earlier: tuple[Earlier, ...]

    def may_have(self, update: Restricted) -> bool:
        """
        Return whether it wants an update and is allowed to receive it.
        """

    def seek(self, update: Restricted) -> Generator[None, None, bool]:
        """
        Return the same as :meth:`may_have`, in steps.
        """


class SharedFrames:
    """
    Updates of some positions, with their frames for each audience.

    :param entries: the updates with their positions, in order.
    :ivar size: how many bytes the frames are.
    """

    def __init__(self, entries: Sequence[tuple[int, Item]]) -> None:
        self.entries = entries
        self.size = sum(len(update.frame) for _, update in entries)
        self._kinds: dict[_Kind, Item] = {_kind_of(update): update for _, update in entries}
        self._made: dict[tuple[bool, ...], tuple[Framed, int]] = {}
        self._known: dict[object, tuple[bool, ...]] = {}
        self._known_weight = 0

    def frames_for(self, subscriber: Audience) -> Generator[None, None, tuple[Framed, int]]:
        """
        Return the frames that a subscriber may receive, and their number, in steps.
        """
        if subscriber.earlier:
            # Its topics have changed within this page or after it, which no other subscriber shares.
            return (yield from self._frames_by_position(subscriber))
        return self.frames_of((yield from self.allowed_for(subscriber)))

    def _frames_by_position(self, subscriber: Audience) -> Generator[None, None, tuple[Framed, int]]:
        earlier, now = subscriber.earlier, (subscriber.topics, subscriber.private)
        allowed: dict[tuple[_Kind, int], bool] = {}
        frames: list[bytes] = []
        for position, update in self.entries:
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

    def allowed_for(self, subscriber: Audience) -> Generator[None, None, tuple[bool, ...]]:
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
        frames = [update.frame for _, update in self.entries if _kind_of(update) in kinds]
        return Framed(b"".join(frames)), len(frames)


def _kind_of(update: Item) -> _Kind:
    return update.topics, update.private


class SharedPage(SharedFrames):
    """
    A page of a journal, with its frames for each audience.

    :ivar page: the page.
    """

    def __init__(self, page: Page) -> None:
        super().__init__(page.entries)
        self.page = page

    def without_ids(self, up_to: int) -> SharedFrames:
        """
        Return its updates up to a position, without their ids.
        """
        return SharedFrames(
            [
                (position, _WithoutID(update.topics, update.private, update.frame_without_id))
                for position, update in self.page.entries
                if position <= up_to
            ]
        )


class _WithoutID(NamedTuple):
    topics: tuple[str, ...]
    private: bool
    frame: bytes


class SharedPages(Generic[K, P]):
    """
    Keeps the pages that were read last, by a key.

    :param reactor: the reactor.
    """

    def __init__(self, reactor: IReactorTime) -> None:
        self._reactor = reactor
        # Each page with the time when it expires.
        self._pages: dict[K, tuple[float, P]] = {}

    def find(self, key: K) -> P | None:
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

    def add(self, key: K, shared: P) -> None:
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
