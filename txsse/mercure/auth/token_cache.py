"""
Caches verified tokens, so that each is verified once.

The cache is limited by memory, since a token may have many patterns, which take the most. For the unit, see
:attr:`txsse.mercure.auth.grants.Grants.weight`.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from math import inf
from typing import Generic, TypeVar

from txsse.mercure.auth.grants import Grants

__all__ = ["MAX_REMEMBERED", "MAX_WEIGHT", "CachedToken", "TokenCache"]

#: The maximum number of cached tokens. A publisher sends the same token repeatedly.
MAX_REMEMBERED = 1000

#: The maximum weight of all cached tokens: 16 MiB, in tenths of a KiB.
MAX_WEIGHT = 16 * 1024 * 10

# The weight of a token without its grants and text, and the number of characters that weigh a tenth of a KiB.
# Measured with tracemalloc.
_WEIGHT = 5
_CHARACTERS_PER_WEIGHT = 100

_Keys = TypeVar("_Keys")


@dataclass(frozen=True)
class CachedToken(Generic[_Keys]):
    """
    The result of a verification.

    :ivar keys: the source of the key that verified the signature.
    :ivar version: the version of that source at the time.
    :ivar grants: what the token grants.
    """

    keys: _Keys
    version: int
    grants: Grants


class TokenCache(Generic[_Keys]):
    """
    Verified tokens, by their text and role.

    Expired tokens are removed at the next call. If the cache is full, the least recently used tokens are
    removed.

    :param seconds: returns the time, in seconds since 1970.
    :param max_weight: the maximum weight of all tokens, in tenths of a KiB.
    :param max_count: the maximum number of tokens.
    :ivar weight: the weight of all tokens.
    """

    def __init__(
        self, seconds: Callable[[], float], *, max_weight: int = MAX_WEIGHT, max_count: int = MAX_REMEMBERED
    ) -> None:
        self.weight = 0
        self._seconds = seconds
        self._max_weight = max_weight
        self._max_count = max_count
        self._tokens: OrderedDict[tuple[str, str], tuple[CachedToken[_Keys], int]] = OrderedDict()
        # No cached token expires before this time.
        self._next_expiry = inf

    def __len__(self) -> int:
        return len(self._tokens)

    def find(self, token: str, role: str) -> CachedToken[_Keys] | None:
        """
        Return the cached result for a token; ``None`` if it is not cached.
        """
        self._forget_expired()
        found = self._tokens.get((token, role))
        if found is None:
            return None
        self._tokens.move_to_end((token, role))
        return found[0]

    def add(self, token: str, role: str, remembered: CachedToken[_Keys]) -> None:
        """
        Cache the result for a token, unless it weighs more than the whole cache may.
        """
        self._forget_expired()
        self.forget(token, role)
        weight = _WEIGHT + len(token) // _CHARACTERS_PER_WEIGHT + remembered.grants.weight
        if weight > self._max_weight:
            return
        while self._tokens and (
            self.weight + weight > self._max_weight or len(self._tokens) >= self._max_count
        ):
            _, (_, lighter) = self._tokens.popitem(last=False)
            self.weight -= lighter
        self._tokens[token, role] = remembered, weight
        self.weight += weight
        self._next_expiry = min(self._next_expiry, _expiry(remembered))

    def forget(self, token: str, role: str) -> None:
        """
        Remove a token, if it is cached.
        """
        _, weight = self._tokens.pop((token, role), (None, 0))
        self.weight -= weight

    def _forget_expired(self) -> None:
        now = self._seconds()
        if now < self._next_expiry:
            return
        for key, (remembered, _) in list(self._tokens.items()):
            if _expiry(remembered) <= now:
                self.forget(*key)
        self._next_expiry = min((_expiry(each) for each, _ in self._tokens.values()), default=inf)


def _expiry(remembered: CachedToken[_Keys]) -> float:
    expires = remembered.grants.expires
    return inf if expires is None else expires
