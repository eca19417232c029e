"""
How a journal retains an update: beyond its limits, as the newest one of a topic and a key.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from math import inf

from txsse._arguments import check_number
from txsse.errors import InvalidField
from txsse.protocol.event import check_text

__all__ = ["MAX_KEY_BYTES", "UNRETAIN_TYPE", "Retention", "to_retention"]

#: The maximum length of a key, in bytes.
MAX_KEY_BYTES = 1024

#: The type of the event that notifies subscribers that a retained update was removed. Its data is the key.
UNRETAIN_TYPE = "unretain"

# The key is the data of an event, which has other line ends than the key.
_ILLEGAL = re.compile("[\r\n\0]")


@dataclass(frozen=True)
class Retention:
    """
    How an update is retained.

    :ivar key: the key. Of each topic and key, the newest update is retained.
    :ivar seconds: for how long, in seconds; ``None`` until another update replaces it or it is removed.
    :ivar owner: who counts as its publisher, for a quota; ``None`` for none.
    :raises InvalidField: for a key that is empty, has more than ``MAX_KEY_BYTES`` bytes, or cannot be the
        data of an event; and for an owner that has no UTF-8 form.
    :raises TypeError: for a key or an owner that is not a string, and for a time that is not a number.
    :raises ValueError: for a time that is not positive and finite.
    """

    key: str
    seconds: float | None = None
    owner: str | None = None

    def __post_init__(self) -> None:
        """
        Check the values.
        """
        key = check_text("retain", self.key, _ILLEGAL)
        object.__setattr__(self, "key", key)
        if not key:
            raise InvalidField("retain", "a retained update needs a key that is not empty")
        if len(key.encode()) > MAX_KEY_BYTES:
            raise InvalidField("retain", f"has more than {MAX_KEY_BYTES} bytes")
        if self.seconds is not None:
            check_number("retain_for", self.seconds, "a number of seconds")
            # One type for all journals: an int and an equal float are the same time.
            try:
                seconds = float(self.seconds)
            except OverflowError:
                seconds = inf
            if not 0 < seconds < inf:
                raise ValueError(f"retain_for must be a positive number of seconds, not {seconds!r}")
            object.__setattr__(self, "seconds", seconds)
        if self.owner is not None:
            # Such as the subject of a token: a journal writes it as UTF-8.
            object.__setattr__(self, "owner", check_text("owner", self.owner))


def to_retention(retain: str | None, retain_for: float | None) -> Retention | None:
    """
    Return the retention for the parameters of a publication; ``None`` for an update that is not retained.

    :raises ValueError: for a time without a key; otherwise as :class:`Retention` does.
    """
    if retain is not None:
        try:
            return _known(retain, retain_for)
        except TypeError:
            # A value that is not hashable. This raises the error that names it.
            return Retention(retain, retain_for)
    if retain_for is not None:
        raise ValueError("retain_for needs a key: publish(..., retain='device-7', retain_for=60)")
    return None


# The same keys are published again and again. A bool is not the equal int.
_known = lru_cache(maxsize=4096, typed=True)(Retention)
