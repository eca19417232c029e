"""
The frames that are buffered for slow readers, with one limit per channel and one for all channels.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable, Hashable
from typing import NamedTuple, Protocol, TypeVar, cast

__all__ = ["Budget", "FrameBuffer", "KeyedBuffer", "MakeRoom", "Mark"]


# The type of the objects that identify the frames of one user of a buffer.
Mark = TypeVar("Mark")


class Budget:
    """
    The limits of buffered bytes, for one channel and for all channels that share the budget.

    :param each: the limit of one channel, in bytes.
    :param total: the limit of all channels together, in bytes.
    :ivar held: how many bytes all channels buffer now.
    :ivar dropped: how many frames have been dropped so far, of all channels.
    """

    __slots__ = ("dropped", "each", "held", "total")

    def __init__(self, each: int, total: int) -> None:
        self.each = each
        self.total = total
        self.held = 0
        self.dropped = 0


class MakeRoom(Protocol):
    """
    The part of an overflow policy that a buffer calls; see :class:`~txsse.server.slow.OverflowPolicy`.
    """

    def make_room(self, buffer: FrameBuffer, size: int) -> bool:
        """
        Make room for a frame of a size in bytes.
        """


class _Frame(NamedTuple):
    data: bytes
    mark: object


class FrameBuffer:
    """
    The buffered frames of one channel, oldest first.

    :param budget: the limits.
    :param policy: the overflow policy, called when a frame does not fit.
    :ivar size: how many bytes are buffered.
    :ivar dropped: how many frames have been dropped so far.
    """

    __slots__ = ("_budget", "_frames", "_policy", "dropped", "size")

    # Created on first use: an empty deque takes 600 bytes, and most channels never buffer anything.
    _frames: deque[_Frame] | None

    def __init__(self, budget: Budget, policy: MakeRoom) -> None:
        self.size = 0
        self.dropped = 0
        self._budget = budget
        self._policy = policy
        self._frames = None

    def __len__(self) -> int:
        return len(self._frames or ())

    def has_room(self, size: int) -> bool:
        """
        Return whether a frame of a size in bytes fits within both limits.
        """
        budget = self._budget
        return self.size + size <= budget.each and budget.held + size <= budget.total

    def put(self, key: Hashable, data: bytes, mark: object = None) -> bool:
        """
        Append a frame; if it does not fit, call the overflow policy.

        If the frame still does not fit after the policy has made room, it is dropped.

        :param key: the subject of the frame; :class:`KeyedBuffer` replaces an older frame of the same key.
        :param mark: the object that :meth:`withdraw` identifies the frame by; ``None`` for a frame that is
            never withdrawn.
        :returns: ``False`` if the policy closes the channel.
        """
        size = len(data)
        if not self.has_room(size):
            if not self._policy.make_room(self, size):
                return False
            if not self.has_room(size):
                self._count_drop()
                return True
        self._append(key, _Frame(data, mark))
        self._count(size)
        return True

    def take(self) -> bytes | None:
        """
        Remove and return the oldest frame; ``None`` if the buffer is empty.
        """
        if not self._frames:
            self._frames = None
            return None
        frame = self._pop()
        self._count(-len(frame.data))
        return frame.data

    def drop_oldest(self) -> None:
        """
        Drop the oldest frame, and count it as dropped.
        """
        self._count(-len(self._pop().data))
        self._count_drop()

    def withdraw(self, chosen: Callable[[Mark], bool]) -> None:
        """
        Remove the chosen frames, without counting them as dropped.

        :param chosen: called with the mark of each frame that has one, oldest frame first; returns whether
            the frame is removed.
        """
        if self._frames:
            # The caller has put these marks, and knows their type.
            is_chosen = cast("Callable[[object], bool]", chosen)
            self._count(-self._keep(lambda frame: frame.mark is None or not is_chosen(frame.mark)))

    def clear(self) -> None:
        """
        Remove all frames, without counting them as dropped.
        """
        self._frames = None
        self._count(-self.size)

    def _count(self, size: int) -> None:
        self.size += size
        self._budget.held += size

    def _count_drop(self) -> None:
        self.dropped += 1
        self._budget.dropped += 1

    def _append(self, key: Hashable, frame: _Frame) -> None:
        if self._frames is None:
            self._frames = deque()
        self._frames.append(frame)

    def _pop(self) -> _Frame:
        # Called only while the buffer has frames; a check would take longer than the call.
        return self._frames.popleft()  # type: ignore[union-attr]

    def _keep(self, is_kept: Callable[[_Frame], bool]) -> int:
        """
        Remove the frames that are not kept.

        :returns: how many bytes were removed.
        """
        self._frames = deque(filter(is_kept, self._frames or ()))
        return self.size - sum(len(frame.data) for frame in self._frames)


class KeyedBuffer(FrameBuffer):
    """
    A buffer of the newest frame of each key, in the order of their last change.
    """

    __slots__ = ()

    # All methods that use more of a deque than its length are replaced here.
    _frames: OrderedDict[Hashable, _Frame] | None  # type: ignore[assignment]

    def put(self, key: Hashable, data: bytes, mark: object = None) -> bool:
        """
        Append a frame, and drop the older frame of its key.
        """
        older = self._frames.pop(key, None) if self._frames else None
        if older is not None:
            self._count(-len(older.data))
            self._count_drop()
        return super().put(key, data, mark)

    def _append(self, key: Hashable, frame: _Frame) -> None:
        if self._frames is None:
            # With a plain dict, each search for the first entry would pass over all removed ones.
            self._frames = OrderedDict()
        self._frames[key] = frame

    def _pop(self) -> _Frame:
        return self._frames.popitem(last=False)[1]  # type: ignore[union-attr]

    def _keep(self, is_kept: Callable[[_Frame], bool]) -> int:
        frames = self._frames or OrderedDict()
        self._frames = OrderedDict((key, frame) for key, frame in frames.items() if is_kept(frame))
        return self.size - sum(len(frame.data) for frame in self._frames.values())
