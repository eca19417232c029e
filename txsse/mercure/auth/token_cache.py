"""
Tokens that were good, remembered so that they are verified once.

The bound is on memory: patterns are the larger part of it, and of those a token may have many. See
:attr:`txsse.mercure.auth.grants.Grants.weight` for the unit.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from math import inf
from typing import Generic, TypeVar

from txsse.mercure.auth.grants import Grants

__all__ = ["MAX_REMEMBERED", "MAX_WEIGHT", "CachedToken", "TokenCache"]

#: How many tokens are remembered. A publisher sends the same one again and again.
MAX_REMEMBERED = 1000

#: What they may weigh together: 16 MiB, in tenths of a KiB.
MAX_WEIGHT = 16 * 1024 * 10

# What one weighs beside its grants and its text, and how many characters of that weigh as much as a tenth of
# a KiB. Counted with tracemalloc.
_WEIGHT = 5
_CHARACTERS_PER_WEIGHT = 100

_Keys = TypeVar("_Keys")


@dataclass(frozen=True)
class CachedToken(Generic[_Keys]):
    """
    What is remembered of a token.

    :ivar keys: where the key came from that fits its signature.
    :ivar version: which version of those it was.
    :ivar grants: what it allows.
    """

    keys: _Keys
    version: int
    grants: Grants


class TokenCache(Generic[_Keys]):
    """
    Remembers tokens by their text and what they were presented for. Expired tokens are forgotten when the
    next token comes; where there is no room, those that were not presented for longest are.

    :param seconds: the time, in seconds since 1970.
    :param max_weight: what all may weigh together, in tenths of a KiB.
    :param max_count: how many there may be.
    :ivar weight: what they weigh together.
    """

    def __init__(
        self, seconds: Callable[[], float], *, max_weight: int = MAX_WEIGHT, max_count: int = MAX_REMEMBERED
    ) -> None:
        self.weight = 0
        self._seconds = seconds
        self._max_weight = max_weight
        self._max_count = max_count
        self._tokens: OrderedDict[tuple[str, str], tuple[CachedToken[_Keys], int]] = OrderedDict()
        # No token that is remembered expires before that.
        self._next_expiry = inf

    def __len__(self) -> int:
        return len(self._tokens)

    def find(self, token: str, role: str) -> CachedToken[_Keys] | None:
        """
        Return what is remembered of a token; ``None`` for nothing.
        """
        self._forget_expired()
        found = self._tokens.get((token, role))
        if found is None:
            return None
        self._tokens.move_to_end((token, role))
        return found[0]

    def add(self, token: str, role: str, remembered: CachedToken[_Keys]) -> None:
        """
        Remember a token. One that weighs more than all together may is not remembered.
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
        Forget a token, if it is remembered.
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
