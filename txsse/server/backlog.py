"""
What a channel holds back for a client that is behind, and what becomes of it when there is too much: the
policy for slow readers.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Protocol

__all__ = ["POLICIES", "Backlog", "DropNewest", "KeepLatest", "KeepOrClose"]


class Backlog(Protocol):
    """
    Frames in waiting.

    :ivar size: how many bytes wait.
    :ivar dropped: how many frames were given up so far.
    """

    size: int
    dropped: int

    def put(self, key: str | None, frame: bytes) -> bool:
        """
        Take a frame.

        :param key: what the frame is about; a newer frame of the same key stands for an older one.
        :returns: ``False`` where the channel is to be closed instead.
        """

    def take(self) -> bytes | None:
        """
        Return the next frame to be sent; ``None`` where there is none.
        """

    def clear(self) -> None:
        """
        Give up all frames.
        """


class KeepOrClose:
    """
    ``close``: keep everything up to the limit; beyond it the stream ends, and the client comes back with
    its ``Last-Event-ID``.

    :param limit: how many bytes may wait.
    """

    def __init__(self, limit: int) -> None:
        self.size = 0
        self.dropped = 0
        self._limit = limit
        self._frames: deque[bytes] = deque()

    def put(self, key: str | None, frame: bytes) -> bool:
        """
        Take a frame if there is room.
        """
        if self.size + len(frame) > self._limit:
            return False
        self._frames.append(frame)
        self.size += len(frame)
        return True

    def take(self) -> bytes | None:
        """
        Return the oldest frame.
        """
        if not self._frames:
            return None
        frame = self._frames.popleft()
        self.size -= len(frame)
        return frame

    def clear(self) -> None:
        """
        Give up all frames.
        """
        self._frames.clear()
        self.size = 0


class DropNewest(KeepOrClose):
    """
    ``drop``: keep everything up to the limit; beyond it new frames are dropped and counted.

    :param limit: how many bytes may wait.
    """

    def put(self, key: str | None, frame: bytes) -> bool:
        """
        Take a frame if there is room, and count it otherwise.
        """
        if not super().put(key, frame):
            self.dropped += 1
        return True


class KeepLatest:
    """
    ``latest``: of all frames with the same key keep the newest alone, so that a client that was behind
    sees how things stand, and not how they came to. Where even these exceed the limit, the oldest go.

    :param limit: how many bytes may wait.
    """

    def __init__(self, limit: int) -> None:
        self.size = 0
        self.dropped = 0
        self._limit = limit
        # In the order of the last change, which a dict keeps where a key is removed before it is set.
        self._frames: dict[str | None, bytes] = {}

    def put(self, key: str | None, frame: bytes) -> bool:
        """
        Take a frame in the place of an older one.
        """
        self._drop(key)
        self._frames[key] = frame
        self.size += len(frame)
        while self.size > self._limit:
            self._drop(next(iter(self._frames)))
        return True

    def _drop(self, key: str | None) -> None:
        old = self._frames.pop(key, None)
        if old is not None:
            self.size -= len(old)
            self.dropped += 1

    def take(self) -> bytes | None:
        """
        Return the frame whose key has been without news for the longest.
        """
        if not self._frames:
            return None
        frame = self._frames.pop(next(iter(self._frames)))
        self.size -= len(frame)
        return frame

    def clear(self) -> None:
        """
        Give up all frames.
        """
        self._frames.clear()
        self.size = 0


POLICIES: dict[str, Callable[[int], Backlog]] = {
    "close": KeepOrClose,
    "latest": KeepLatest,
    "drop": DropNewest,
}
