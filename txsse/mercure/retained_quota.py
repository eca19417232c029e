"""
The quota of retained updates: how many each publisher may have.

Strategy: the journal records with each retained update who counts as its publisher, so that the quota holds
after a restart and at all nodes. Updates that the journal has not acknowledged yet are counted here.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256
from typing import TypeAlias

from txsse.hub.hub import Hub
from txsse.journal.retained import AnyRetained
from txsse.journal.update import Update
from txsse.mercure.auth.identity import JTI, SUB, Identity
from txsse.mercure.errors import Refusal

__all__ = ["OverQuota", "Quota", "publisher_of"]

# The length of a hash, in hexadecimal digits: as long as that of a UUID.
_DIGITS = 32

# A topic and a key.
_Row: TypeAlias = tuple[str, str]


class OverQuota(Refusal):
    """
    The publisher has as many retained updates as its quota allows.
    """

    status = 507


def publisher_of(identity: Identity, token: str) -> str:
    """
    Return who counts as the publisher of a token's retained updates, without disclosing it.

    It is the token's subject; without one, its ID; and without both, the token itself.

    :param identity: whose token it is.
    :param token: the verified token.
    """
    if identity.subject is not None:
        kind, text = SUB, identity.subject
    elif identity.token_id is not None:
        kind, text = JTI, identity.token_id
    else:
        # Without the signature: the same claims may have several valid ones.
        kind, text = "token", token.rpartition(".")[0]
    return f"{kind}-{sha256(text.encode()).hexdigest()[:_DIGITS]}"


class Quota:
    """
    Limits how many retained updates each publisher has.

    :param hub: the hub.
    :param limit: how many; an update that is retained under two topics counts twice. ``None`` for no limit.
    """

    def __init__(self, hub: Hub, limit: int | None) -> None:
        self._hub = hub
        self._limit = limit
        # The publications under way: for each publisher, the topics and keys that it did not have before.
        self._under_way: dict[str, Counter[_Row]] = {}

    @contextmanager
    def reserve(self, update: Update) -> Iterator[None]:
        """
        Check that the publisher of an update may retain it, and count it until the end of the context.

        A publisher may always replace its own retained updates. Those of another publisher count as new ones.

        :param update: any update: only those that are retained count.
        :raises OverQuota: if the publisher would have too many.
        """
        retained = self._hub.retained
        owner = None if update.retention is None else update.retention.owner
        # A journal that retains no updates refuses this one.
        if self._limit is None or owner is None or retained is None:
            yield
            return
        new = _find_new(retained, update, owner)
        under_way = self._under_way.setdefault(owner, Counter())
        try:
            count = retained.owned(owner) + len(under_way) + sum(row not in under_way for row in new)
            if new and count > self._limit:
                # The journal counts those that it has retained and not acknowledged yet.
                count -= sum(_has(retained, row, owner) for row in under_way)
            if new and count > self._limit:
                raise OverQuota(
                    f"the publisher of this token may have {self._limit} retained updates, one for each "
                    "topic and key, and has no room for this one; remove some, or replace one that it has"
                )
            under_way.update(new)
            try:
                yield
            finally:
                under_way.subtract(new)
                for row in new:
                    if not under_way[row]:
                        del under_way[row]
        finally:
            if not under_way:
                self._under_way.pop(owner, None)


def _find_new(retained: AnyRetained, update: Update, owner: str) -> list[_Row]:
    """
    Return the topics and keys of an update that its publisher does not have yet.
    """
    assert update.retention is not None
    key = update.retention.key
    return [(topic, key) for topic in update.topics if not _has(retained, (topic, key), owner)]


def _has(retained: AnyRetained, row: _Row, owner: str) -> bool:
    found = retained.find(*row)
    return found is not None and found.owner == owner
