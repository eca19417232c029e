"""
What a channel holds back for a client that is behind, and what becomes of it when there is too much: the
policy for slow readers.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Hashable
from typing import Any, Protocol

__all__ = ["POLICIES", "Backlog", "Budget", "DropNewest", "KeepLatest", "KeepOrClose"]


# A frame, and its mark.
_Marked = tuple[bytes, object]


def _is_chosen(marked: _Marked, chosen: Callable[[Any], bool]) -> bool:
    return marked[1] is not None and chosen(marked[1])


class Budget:
    """
    How much may be held back, by one channel and by all that share this.

    :param each: how many bytes one channel may hold back.
    :param total: how many bytes all of them together may.
    :ivar held: how many bytes they hold back now.
    :ivar dropped: how many frames they gave up so far.
    """

    __slots__ = ("dropped", "each", "held", "total")

    def __init__(self, each: int, total: int) -> None:
        self.each = each
        self.total = total
        self.held = 0
        self.dropped = 0


class Backlog(Protocol):
    """
    Frames in waiting.

    :ivar size: how many bytes wait.
    :ivar dropped: how many frames were given up so far.
    """

    size: int
    dropped: int

    def put(self, key: Hashable, frame: bytes, mark: object = None) -> bool:
        """
        Take a frame.

        :param key: what the frame is about; a newer frame of the same key stands for an older one.
        :param mark: what :meth:`withdraw` is to know the frame by; ``None`` for a frame that stays.
        :returns: ``False`` where the channel is to be closed instead.
        """

    def take(self) -> bytes | None:
        """
        Return the next frame to be sent; ``None`` where there is none.
        """

    def withdraw(self, chosen: Callable[[Any], bool]) -> None:
        """
        Remove frames, which do not count as dropped.

        :param chosen: called with the mark of each frame that has one, oldest frame first; returns whether
            the frame is removed.
        """

    def clear(self) -> None:
        """
        Give up all frames.
        """


class KeepOrClose:
    """
    ``close``: keep everything up to the limit; beyond it the stream ends, and the client comes back with
    its ``Last-Event-ID``.

    :param budget: how many bytes may wait.
    """

    __slots__ = ("_budget", "_frames", "dropped", "size")

    def __init__(self, budget: Budget) -> None:
        self.size = 0
        self.dropped = 0
        self._budget = budget
        # Not before it is needed: an empty deque takes 600 bytes, and most channels never hold anything back.
        self._frames: deque[_Marked] | None = None

    def put(self, key: Hashable, frame: bytes, mark: object = None) -> bool:
        """
        Take a frame if there is room.
        """
        budget = self._budget
        if self.size + len(frame) > budget.each or budget.held + len(frame) > budget.total:
            return False
        if self._frames is None:
            self._frames = deque()
        self._frames.append((frame, mark))
        self._count(len(frame))
        return True

    def _count(self, size: int) -> None:
        self.size += size
        self._budget.held += size

    def take(self) -> bytes | None:
        """
        Return the oldest frame.
        """
        if not self._frames:
            self._frames = None
            return None
        frame, _ = self._frames.popleft()
        self._count(-len(frame))
        return frame

    def withdraw(self, chosen: Callable[[Any], bool]) -> None:
        """
        Remove the chosen frames.
        """
        if self._frames:
            kept = [marked for marked in self._frames if not _is_chosen(marked, chosen)]
            self._count(sum(len(frame) for frame, _ in kept) - self.size)
            self._frames = deque(kept)

    def clear(self) -> None:
        """
        Give up all frames.
        """
        self._frames = None
        self._count(-self.size)


class DropNewest(KeepOrClose):
    """
    ``drop``: keep everything up to the limit; beyond it new frames are dropped and counted.

    :param budget: how many bytes may wait.
    """

    __slots__ = ()

    def put(self, key: Hashable, frame: bytes, mark: object = None) -> bool:
        """
        Take a frame if there is room, and count it otherwise.
        """
        if not super().put(key, frame, mark):
            self.dropped += 1
            self._budget.dropped += 1
        return True


class KeepLatest:
    """
    ``latest``: of all frames with the same key keep the newest alone, so that a client that was behind
    sees how things stand, and not how they came to. Where even these exceed the limit, the oldest go.

    :param budget: how many bytes may wait.
    """

    __slots__ = ("_budget", "_frames", "dropped", "size")

    def __init__(self, budget: Budget) -> None:
        self.size = 0
        self.dropped = 0
        self._budget = budget
        # In the order of the last change, which a dict keeps where a key is removed before it is set.
        self._frames: dict[Hashable, _Marked] = {}

    def put(self, key: Hashable, frame: bytes, mark: object = None) -> bool:
        """
        Take a frame in the place of an older one.
        """
        budget = self._budget
        self._drop(key)
        self._frames[key] = frame, mark
        self._count(len(frame))
        # Where others hold all that may be held, this one is dropped at once.
        while self._frames and (self.size > budget.each or budget.held > budget.total):
            self._drop(next(iter(self._frames)))
        return True

    def _drop(self, key: Hashable) -> None:
        old = self._frames.pop(key, None)
        if old is not None:
            self._count(-len(old[0]))
            self.dropped += 1
            self._budget.dropped += 1

    def _count(self, size: int) -> None:
        self.size += size
        self._budget.held += size

    def take(self) -> bytes | None:
        """
        Return the frame whose key has been without news for the longest.
        """
        if not self._frames:
            return None
        frame, _ = self._frames.pop(next(iter(self._frames)))
        self._count(-len(frame))
        return frame

    def withdraw(self, chosen: Callable[[Any], bool]) -> None:
        """
        Remove the chosen frames.
        """
        self._frames = {key: marked for key, marked in self._frames.items() if not _is_chosen(marked, chosen)}
        self._count(sum(len(frame) for frame, _ in self._frames.values()) - self.size)

    def clear(self) -> None:
        """
        Give up all frames.
        """
        self._frames.clear()
        self._count(-self.size)


# A hub reads on from its journal for a channel that rewinds; what is sent to such a channel past the hub is
# kept as with "close".
POLICIES: dict[str, Callable[[Budget], Backlog]] = {
    "close": KeepOrClose,
    "latest": KeepLatest,
    "drop": DropNewest,
    "rewind": KeepOrClose,
}
