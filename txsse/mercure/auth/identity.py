"""
Whose token it is: the claims by which tokens are revoked, and streams disconnected.

Sources: https://www.rfc-editor.org/rfc/rfc7519#section-4.1 (``sub``, ``iat``, ``jti``), and
https://openid.net/specs/openid-connect-frontchannel-1_0.html (``sid``)
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass

from txsse.mercure.errors import InvalidToken

__all__ = [
    "JTI",
    "KEY_CLAIM",
    "MAX_IDENTITY_BYTES",
    "SUB",
    "Identity",
    "check_identity",
    "check_key_claim",
    "read_identity",
    "stream_key",
]

#: The claims with the ID of a token, and with its subject.
JTI, SUB = "jti", "sub"

#: The default name of the claim with the key of a session: the registered claim for the ID of a session.
KEY_CLAIM = "sid"

#: The maximum length of a value, in bytes: all nodes keep revoked ones in memory.
MAX_IDENTITY_BYTES = 512

# Claims that are no texts, or that have another meaning in each token.
_OTHER_CLAIMS = frozenset({"authorization_details", "aud", "exp", "iat", "mercure", "nbf"})

# The memory of an identity without its texts, in tenths of a KiB, and the number of characters that take a
# tenth of a KiB, at four bytes each.
_WEIGHT = 2
_CHARACTERS_PER_WEIGHT = 25


@dataclass(frozen=True)
class Identity:
    """
    The claims of a token that say whose it is. None of them appears in logs.

    :ivar subject: the claim ``sub``; ``None`` if it is missing or empty.
    :ivar token_id: the claim ``jti``, in the same way.
    :ivar session: the claim with the key of a session, in the same way.
    :ivar key_claim: the name of that claim.
    """

    subject: str | None = None
    token_id: str | None = None
    session: str | None = None
    key_claim: str = KEY_CLAIM

    def __repr__(self) -> str:
        return "<Identity>"

    @property
    def claims(self) -> list[tuple[str, str]]:
        """
        The claims by which the token may be revoked, with their values.
        """
        named = ((SUB, self.subject), (JTI, self.token_id), (self.key_claim, self.session))
        return [(name, value) for name, value in named if value is not None]

    @property
    def keys(self) -> tuple[Hashable, ...]:
        """
        The keys of a stream with the token: the first is its subject, ``None`` if it has none.

        They are empty if the token has none of the claims.
        """
        others = tuple(stream_key(name, value) for name, value in self.claims if name != SUB)
        return () if self.subject is None and not others else (self.subject, *others)

    @property
    def weight(self) -> int:
        """
        The upper bound of its memory, in tenths of a KiB.
        """
        texts = (value for _, value in self.claims)
        return _WEIGHT + sum(1 + len(text) // _CHARACTERS_PER_WEIGHT for text in texts)


def stream_key(claim: str, value: str) -> Hashable:
    """
    Return the key of the streams whose tokens have this value of a claim.

    It is the subject itself, ``("jti", value)``, or ``("key", value)`` for a session, whatever its claim is.
    """
    if claim == SUB:
        return value
    return (JTI if claim == JTI else "key", value)


def read_identity(claims: Mapping[str, object], key_claim: str) -> Identity:
    """
    Return whose token it is.

    :param claims: the claims of the token.
    :param key_claim: the name of the claim with the key of a session.
    :raises InvalidToken: for a claim that is not a text, or that is so long that it could not be revoked.
    """
    return Identity(_text(claims, SUB), _text(claims, JTI), _text(claims, key_claim), key_claim)


def check_identity(value: str) -> str:
    """
    Return the value of such a claim.

    :raises ValueError: if it is empty or too long, or has a lone surrogate. The error is the end of a
        sentence that begins with the value's name.
    """
    try:
        size = len(value.encode())
    except UnicodeEncodeError:
        raise ValueError("is not valid Unicode") from None
    if not size:
        raise ValueError("is empty")
    if size > MAX_IDENTITY_BYTES:
        raise ValueError(f"has {size} bytes, and {MAX_IDENTITY_BYTES} is the limit")
    return value


def check_key_claim(name: str) -> None:
    """
    Check the name of the claim with the key of a session.

    :raises ValueError: for a name that no such claim can have.
    """
    if not 0 < len(name) <= 100 or not name.isprintable() or name in _OTHER_CLAIMS:
        raise ValueError(
            f"{name[:100]!r} is not the name of a claim with the key of a session; an example is {KEY_CLAIM}"
        )


def _text(claims: Mapping[str, object], name: str) -> str | None:
    value = claims.get(name)
    if value is None or value == "":
        return None
    if not isinstance(value, str):
        raise InvalidToken(f"its {name} is not a text")
    try:
        return check_identity(value)
    except ValueError as error:
        raise InvalidToken(f"its {name} {error}, so that it could not be revoked") from None
