"""
The list of revoked tokens that a node holds in memory: each use of a token is checked against it.
"""

from __future__ import annotations

from collections.abc import Callable

from txsse.errors import TooManyRevocations
from txsse.journal.revocations import MAX_REVOCATIONS, Revocation, merge
from txsse.mercure.auth.grants import Grants
from txsse.mercure.auth.identity import JTI
from txsse.mercure.errors import InvalidToken

__all__ = ["Revoked", "RevokedTokens", "covers"]

# How often expired revocations are removed at most, in seconds: that takes some 10 ms if the list is full.
_TIDY_INTERVAL = 60.0


class Revoked(InvalidToken):
    """
    The token has been revoked.

    :ivar revocation: the revocation that applies to it.
    """

    def __init__(self, revocation: Revocation) -> None:
        super().__init__("it has been revoked", signed=True)
        self.revocation = revocation


def covers(revocation: Revocation, grants: Grants) -> bool:
    """
    Return whether a revocation applies to a token that has its value of its claim.

    The ID of a token is that of one token. A subject or a session may have later tokens, from a log-in after
    the revocation; a token without a time of issue may be an earlier one.
    """
    return revocation.claim == JTI or grants.issued is None or grants.issued <= revocation.at


class RevokedTokens:
    """
    Revocations whose tokens have not expired.

    :param seconds: returns the time, in seconds since 1970.
    :param max_count: the maximum number of revocations.
    """

    def __init__(self, seconds: Callable[[], float], *, max_count: int = MAX_REVOCATIONS) -> None:
        self._seconds = seconds
        self._max_count = max_count
        self._revocations: dict[tuple[str, str], Revocation] = {}
        self._tidied = float("-inf")

    def __len__(self) -> int:
        return len(self._revocations)

    def add(self, revocation: Revocation) -> bool:
        """
        Add a revocation; the later times of it and of one with the same claim and value count.

        :returns: whether the list has changed.
        :raises TooManyRevocations: if the list is full.
        """
        name = revocation.claim, revocation.value
        known = self._revocations.get(name)
        if known is None and len(self._revocations) >= self._max_count:
            self._tidy()
            if len(self._revocations) >= self._max_count:
                raise TooManyRevocations(self._max_count)
        self._revocations[name] = merged = merge(revocation, known, self._seconds())
        return merged != known

    def check(self, grants: Grants) -> None:
        """
        Check that a token has not been revoked.

        :raises Revoked: if it has been.
        """
        now = self._seconds()
        for name in grants.identity.claims:
            found = self._revocations.get(name)
            if found is not None and found.expires > now and covers(found, grants):
                raise Revoked(found)
        if self._revocations and not 0 <= now - self._tidied < _TIDY_INTERVAL:
            self._tidy()

    def _tidy(self) -> None:
        self._tidied = now = self._seconds()
        self._revocations = {name: each for name, each in self._revocations.items() if each.expires > now}
