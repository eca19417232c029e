"""
Ids for places in a journal that no update names.

A newcomer is sent the id of the newest update, so that it can resume even if it never gets one. Where that
update is private, or there is none, its id is not for everybody, and the place has a name of its own.
"""

from __future__ import annotations

import re
import secrets
from hashlib import blake2b

__all__ = ["ResumeIds", "new_secret"]

_PLACE = re.compile("[0-9a-f]{32}", re.ASCII)

_HALF = 64
_MASK = (1 << _HALF) - 1

# Of a Feistel network: three would do for those who cannot choose what is enciphered.
_ROUNDS = 4


def new_secret() -> bytes:
    """
    Make up a secret.
    """
    return secrets.token_bytes(16)


class ResumeIds:
    """
    Ids of the form ``#name-place``. The place is the position, enciphered: as it is, it would tell how many
    updates there are, or when the last one came, which may be private.

    :param secret: what tells this record's places from those of another one with the same positions.
    :ivar prefix: what all of them begin with.
    """

    def __init__(self, secret: bytes) -> None:
        self._secret = secret
        self.prefix = f"#{blake2b(secret, digest_size=4).hexdigest()}-"

    def anchor(self, position: int) -> str:
        """
        Return the id of a place.

        :param position: of 128 bits at most.
        """
        left, right = position >> _HALF, position & _MASK
        for round in range(_ROUNDS):
            left, right = right, left ^ self._mix(right, round)
        return f"{self.prefix}{left << _HALF | right:032x}"

    def find(self, id: str, head: int) -> int | None:
        """
        Return the place that an id names; ``None`` where it names none up to the head.
        """
        place = id[len(self.prefix) :]
        if not id.startswith(self.prefix) or not _PLACE.fullmatch(place):
            return None
        left, right = int(place[:16], 16), int(place[16:], 16)
        for round in reversed(range(_ROUNDS)):
            left, right = right ^ self._mix(left, round), left
        position = left << _HALF | right
        return position if position <= head else None

    def _mix(self, half: int, round: int) -> int:
        digest = blake2b(half.to_bytes(8, "big"), digest_size=8, key=self._secret, salt=bytes([round]))
        return int.from_bytes(digest.digest(), "big")
