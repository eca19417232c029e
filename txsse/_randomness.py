"""
Random numbers and threads, from the operating system or from a simulated reactor.

Strategy: code that needs randomness has a reactor already, for its timers. A reactor with an attribute
``randomness`` or ``make_thread_pool`` provides these, as a reactor with ``wall`` provides the time of day
(see
:mod:`txsse._clock`). So a test can run a hub, its journal and its clients from one seed on one simulated
    reactor.
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
    "ThreadPool",
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
        Return a random number between two others, for jitter.
        """

    def token(self, size: int, /) -> bytes:
        """
        Return ``size`` bytes that cannot be guessed, for IDs and secrets.
        """


class SystemRandomness:
    """
    The randomness of the operating system.
    """

    def uniform(self, low: float, high: float, /) -> float:
        """
        Return a random number between two others.
        """
        return random.uniform(low, high)

    def token(self, size: int, /) -> bytes:
        """
        Return ``size`` bytes from the system's source for secrets.
        """
        return secrets.token_bytes(size)


class SeededRandomness:
    """
    Reproducible randomness from a seed. It is for tests only: its tokens can be guessed.

    :param seed: the seed.
    """

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)

    def uniform(self, low: float, high: float, /) -> float:
        """
        Return the next number of the sequence, between two others.
        """
        return self._random.uniform(low, high)

    def token(self, size: int, /) -> bytes:
        """
        Return the next ``size`` bytes of the sequence.
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
    Return the reactor's attribute ``randomness``, or the randomness of the operating system.
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
    Make a pool of one thread, with the reactor's ``make_thread_pool(name)`` if it has one.
    """
    own: Any = getattr(reactor, "make_thread_pool", None)
    pool: ThreadPool = ThreadPool(1, 1, name=name) if own is None else own(name)
    return pool
