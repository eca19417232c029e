"""
Pages of a journal that many read at about the same time: those who come back at once, after a restart.

Strategy: what is sent of a page is joined and framed once for all who get the same of it. Who gets the same
is told by the kinds of updates in it, by topics and privacy, of which there are fewer than updates.
"""

from __future__ import annotations

from collections.abc import Generator
from itertools import compress

from twisted.internet.interfaces import IReactorTime

from txsse.hub.subscriber import Subscriber
from txsse.hub.topics import weight_of
from txsse.journal.page import Page
from txsse.journal.update import Update
from txsse.journal.window import PAGE_BYTES
from txsse.server.sinks.base import Framed

__all__ = ["SharedPage", "SharedPages"]

# How many pages are kept, of what size at most, for how many audiences each: some 20 MiB in all.
_PAGES = 16
_MAX_SIZE = 2 * PAGE_BYTES
_AUDIENCES = 4

# For how many sets of patterns is remembered what they select of a page, and what they may weigh together, in
# tenths of a KiB: patterns whose subscribers have gone are held by it for as long as the page is.
_PATTERNS = 64
_PATTERNS_WEIGHT = 20_000

# How long a page is kept, in seconds. What the journal gives up meanwhile is still sent.
_SECONDS = 1.0


# What tells one kind of update from another: who may have it.
_Kind = tuple[tuple[str, ...], bool]


class SharedPage:
    """
    A page, and what is made of it.

    :ivar size: how many bytes the frames of its updates are.
    """

    def __init__(self, page: Page) -> None:
        self.page = page
        self.size = sum(len(update.frame) for _, update in page.entries)
        self._kinds: dict[_Kind, Update] = {_kind_of(update): update for _, update in page.entries}
        self._made: dict[tuple[bool, ...], tuple[Framed, int]] = {}
        self._known: dict[object, tuple[bool, ...]] = {}
        self._known_weight = 0

    def frames_of(self, allowed: tuple[bool, ...]) -> tuple[Framed, int]:
        """
        Return the frames of some kinds of updates, and how many they are.

        :param allowed: what :meth:`allowed_for` returned.
        """
        made = self._made.get(allowed)
        if made is None:
            made = self._frame(allowed)
            if len(self._made) < _AUDIENCES:
                self._made[allowed] = made
        return made

    def allowed_for(self, subscriber: Subscriber) -> Generator[None, None, tuple[bool, ...]]:
        """
        Tell which kinds a subscriber may have, in steps. Patterns are asked once for all who have the same.
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
    The pages that were read last.

    :param reactor: the reactor.
    """

    def __init__(self, reactor: IReactorTime) -> None:
        self._reactor = reactor
        # By the position behind which each is, with the time from which it has to be read again.
        self._pages: dict[int, tuple[float, SharedPage]] = {}

    def find(self, after: int) -> SharedPage | None:
        """
        Return the page behind a position, if it is here.
        """
        found = self._pages.get(after)
        if found is None:
            return None
        until, shared = found
        if self._reactor.seconds() < until:
            return shared
        del self._pages[after]
        return None

    def add(self, after: int, shared: SharedPage) -> None:
        """
        Keep a page that will not grow any more.
        """
        if shared.size <= _MAX_SIZE:
            if len(self._pages) >= _PAGES:
                del self._pages[next(iter(self._pages))]
            self._pages[after] = self._reactor.seconds() + _SECONDS, shared

    def clear(self) -> None:
        """
        Forget all.
        """
        self._pages.clear()
