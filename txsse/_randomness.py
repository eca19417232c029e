"""
Randomness and threads, by way of the reactor: the one place that fetches them from the system.

Strategy: whatever needs the time has a reactor already. A reactor with an attribute ``randomness`` or
``make_thread_pool`` provides these too, as one with ``wall`` provides the time of day (see
:mod:`txsse._clock`). So a hub, its journal and its clients run by one seed on one simulated reactor.
"""

from __future__ import annotations

import random
import secrets
from typing import Any, Protocol
from uuid import UUID

from twisted.python.threadpool import ThreadPool

__all__ = [
    "Randomness",
    "SeededRandomness",
    "make_thread_pool",
    "new_uuid",
    "randomness_of",
    "system_randomness",
]


class Randomness(Protocol):
    """
    A source of randomness.
    """

    def uniform(self, low: float, high: float, /) -> float:
        """
        Return a number between two others, for jitter.
        """

    def token(self, size: int, /) -> bytes:
        """
        Return as many bytes that nobody can guess, for ids and secrets.
        """


class SystemRandomness:
    """
    The randomness of the operating system.
    """

    def uniform(self, low: float, high: float, /) -> float:
        """
        Return a number between two others.
        """
        return random.uniform(low, high)

    def token(self, size: int, /) -> bytes:
        """
        Return as many random bytes.
        """
        return secrets.token_bytes(size)


class SeededRandomness:
    """
    Randomness that repeats: for tests, as its tokens can be guessed.

    :param seed: the seed.
    """

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)

    def uniform(self, low: float, high: float, /) -> float:
        """
        Return the next number between two others.
        """
        return self._random.uniform(low, high)

    def token(self, size: int, /) -> bytes:
        """
        Return the next bytes.
        """
        return self._random.randbytes(size)


_SYSTEM = SystemRandomness()


def system_randomness() -> Randomness:
    """
    Return the randomness of the operating system.
    """
    return _SYSTEM


def randomness_of(reactor: object) -> Randomness:
    """
    Return a reactor's own randomness, or that of the system.
    """
    own: Randomness | None = getattr(reactor, "randomness", None)
    return _SYSTEM if own is None else own


def new_uuid(randomness: Randomness) -> str:
    """
    Return a random UUID as a URN, such as ``urn:uuid:9b4f…``.
    """
    return UUID(bytes=randomness.token(16), version=4).urn


def make_thread_pool(reactor: object, name: str) -> ThreadPool:
    """
    Make a pool of one thread, or what a reactor has instead: its own ``make_thread_pool(name)``.
    """
    own: Any = getattr(reactor, "make_thread_pool", None)
    pool: ThreadPool = ThreadPool(1, 1, name=name) if own is None else own(name)
    return pool
