"""
Resume IDs: opaque ids for positions in a journal.

A new client is sent the id of the newest update, so that it can resume even if it has received no update yet.
If that update is private, its id must not be disclosed; if the journal is empty, it has no id to send. In
both cases the client is sent a resume ID, which stands for the position.
"""

from __future__ import annotations

import re
from hashlib import blake2b

from txsse._randomness import Randomness, system_randomness

__all__ = ["ResumeIds", "new_secret"]

_POSITION = re.compile("[0-9a-f]{32}", re.ASCII)

_HALF = 64
_MASK = (1 << _HALF) - 1

# Of the Feistel network that encrypts a position. Three rounds resist chosen plaintexts; four also resist
# chosen ciphertexts, which a client can send as its Last-Event-ID.
_ROUNDS = 4


def new_secret(randomness: Randomness | None = None) -> bytes:
    """
    Return a new random secret, of 16 bytes.

    :param randomness: the source; ``None`` for the operating system.
    """
    return (randomness or system_randomness()).token(16)


class ResumeIds:
    """
    Makes and reads ids of the form ``#record-position``.

    The position is encrypted. In clear text it would disclose the number of updates, or the time at which the
    last one was published, which may be private.

    :param secret: the secret of this record. It distinguishes the record from others with the same positions.
    :ivar prefix: the prefix of all ids of this record.
    """

    def __init__(self, secret: bytes) -> None:
        self._secret = secret
        self.prefix = f"#{blake2b(secret, digest_size=4).hexdigest()}-"

    def resume_id(self, position: int) -> str:
        """
        Return the id for a position.

        :param position: a number of at most 128 bits.
        """
        left, right = position >> _HALF, position & _MASK
        for round in range(_ROUNDS):
            left, right = right, left ^ self._mix(right, round)
        return f"{self.prefix}{left << _HALF | right:032x}"

    def find(self, id: str, head: int) -> int | None:
        """
        Return the position of an id; ``None`` if the id is of another record, or its position after the head.
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
