"""
An extension of Mercure: disconnects clients, and revokes their tokens, by forms that issuers POST to the hub.

The path is ``disconnect`` below the hub's. The form names whose streams and tokens, by one claim.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from datetime import UTC, datetime
from math import ceil

from twisted.web.http import Request

from txsse._serialize import to_json
from txsse.journal.revocations import Revocation
from txsse.mercure.auth.identity import JTI, SUB, check_identity
from txsse.mercure.auth.verify import Verifier
from txsse.mercure.credentials import check_origin, find_credential
from txsse.mercure.errors import BadRequest, Forbidden, MissingToken, Refusal, Unavailable
from txsse.mercure.forms import Fields, check_form, read_body
from txsse.mercure.revocations import NEVER, Revocations
from txsse.mercure.settings import Settings

__all__ = ["DISCONNECT_PATH", "Disconnecting", "NotSupported"]

#: The path below the hub's.
DISCONNECT_PATH = "disconnect"

# The maximum size of a form, in bytes: a value of 512 bytes takes 1,536 when it is percent-encoded.
_MAX_BODY = 16384

# How many requests are carried out at once: each waits for all nodes, and sends them messages.
_MAX_RUNNING = 100

# Ten digits are three hundred years: a longer number is a mistake.
_MAX_DIGITS = 10


class NotSupported(Refusal):
    """
    The hub's journal cannot keep revoked tokens.
    """

    status = 501


class Disconnecting:
    """
    Authorises requests to disconnect clients, and carries them out.

    :param verifier: returns what a token grants.
    :param settings: the hub's settings.
    :param revocations: the hub's revoked tokens.
    :param seconds: returns the time, in seconds since 1970.
    """

    def __init__(
        self,
        verifier: Verifier,
        settings: Settings,
        revocations: Revocations,
        seconds: Callable[[], float],
    ) -> None:
        self._verifier = verifier
        self._settings = settings
        self._revocations = revocations
        self._seconds = seconds
        self._running = 0

    async def disconnect(self, request: Request) -> str:
        """
        Carry out a request.

        :returns: what has been done, as JSON.
        :raises Refusal: if the request is malformed or not authorised, or if it cannot be carried out.
        """
        credential = find_credential(request, self._settings)
        if credential is None:
            raise MissingToken("disconnecting requires a token")
        grants = await self._verifier.verify(credential.token, "publish")
        if credential.by_cookie:
            check_origin(request, self._settings)
        if not grants.disconnect:
            # The body is not read: nothing in it would be allowed.
            raise Forbidden("the token does not allow disconnecting")
        if not self._revocations.are_kept:
            raise NotSupported(
                "the journal of this hub cannot keep revoked tokens; use a memory, SQLite or Redis journal"
            )
        check_form(request)
        revocation = self._read(read_body(request, min(_MAX_BODY, self._settings.max_body)))
        if self._running >= _MAX_RUNNING:
            raise Unavailable(f"nothing has been done: {_MAX_RUNNING} such requests are being carried out")
        self._running += 1
        try:
            outcome = await self._revocations.revoke(revocation)
        finally:
            self._running -= 1
        return to_json(
            {"disconnected": outcome.disconnected, "refused_until": _date(outcome.until)},
        )

    def _read(self, fields: Fields) -> Revocation:
        claims = {"key": self._settings.key_claim, JTI: JTI, SUB: SUB}
        values: defaultdict[str, list[str]] = defaultdict(list)
        for name, value in fields:
            if name in claims or name == "expires_in":
                values[name].append(value)
        lifetimes = values.pop("expires_in", [])
        given = [(name, value) for name, named in values.items() for value in named]
        if len(given) != 1:
            raise BadRequest("give exactly one of the fields key, jti and sub")
        [(name, value)] = given
        try:
            check_identity(value)
        except ValueError as error:
            raise BadRequest(f"{name} {error}") from None
        now = self._seconds()
        return Revocation(claims[name], value, now, min(now + self._lifetime(lifetimes), NEVER))

    def _lifetime(self, given: list[str]) -> float:
        if not given:
            return self._settings.revocation_lifetime
        if len(given) > 1:
            raise BadRequest("the field expires_in occurs more than once")
        [text] = given
        if not (text.isascii() and text.isdigit() and len(text) <= _MAX_DIGITS and int(text)):
            raise BadRequest(
                f"expires_in must be a number of seconds above 0, in at most {_MAX_DIGITS} digits"
            )
        return float(text)


def _date(time: float) -> str:
    """
    Return a time in the format of RFC 3339, rounded up to a second.
    """
    return datetime.fromtimestamp(min(ceil(time), NEVER), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
