"""
Resume IDs: opaque ids for positions in a journal.

A new client is sent the id of the newest update, so that it can resume before it has received any. If that
update is private, its id must not be disclosed; if there is none, there is no id. Then a resume ID stands for
the position.
"""

from __future__ import annotations

import re
from hashlib import blake2b

from txsse._randomness import Randomness, system_randomness

__all__ = ["ResumeIds", "new_secret"]

_POSITION = re.compile("[0-9a-f]{32}", re.ASCII)

_HALF = 64
_MASK = (1 << _HALF) - 1

# Of a Feistel network: three would do for those who cannot choose what is enciphered.
_ROUNDS = 4


def new_secret(randomness: Randomness | None = None) -> bytes:
    """
    Return a new random secret.

    :param randomness: where it comes from; ``None`` for the operating system.
    """
    return (randomness or system_randomness()).token(16)


class ResumeIds:
    """
    Ids of the form ``#record-position``. The position is encrypted: in clear it would disclose how many
    updates there are, or when the last one was published, which may be private.

    :param secret: the secret of this record, which distinguishes it from others with the same positions.
    :ivar prefix: the beginning of all of its ids.
    """

    def __init__(self, secret: bytes) -> None:
        self._secret = secret
        self.prefix = f"#{blake2b(secret, digest_size=4).hexdigest()}-"

    def resume_id(self, position: int) -> str:
        """
        Return the id for a position.

        :param position: of 128 bits at most.
        """
        left, right = position >> _HALF, position & _MASK
        for round in range(_ROUNDS):
            left, right = right, left ^ self._mix(right, round)
        return f"{self.prefix}{left << _HALF | right:032x}"

    def find(self, id: str, head: int) -> int | None:
        """
        Return the position that an id stands for; ``None`` for another id, and for a position after the head.
        """
        digits = id[len(self.prefix) :]
        if not id.startswith(self.prefix) or not _POSITION.fullmatch(digits):
            return None
        left, right = int(digits[:16], 16), int(digits[16:], 16)
        for round in reversed(range(_ROUNDS)):
            left, right = right ^ self._mix(left, round), left
        position = left << _HALF | right
        return position if position <= head else None

    def _mix(self, half: int, round: int) -> int:
        digest = blake2b(half.to_bytes(8, "big"), digest_size=8, key=self._secret, salt=bytes([round]))
        return int.from_bytes(digest.digest(), "big")
