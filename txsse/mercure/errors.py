"""
Errors that a request is refused with, each with its HTTP status and its OAuth error code.
"""

from __future__ import annotations

from txsse.errors import SSEError

__all__ = [
    "BadPresentation",
    "BadRequest",
    "Forbidden",
    "InvalidToken",
    "MissingToken",
    "Refusal",
    "TooLarge",
    "Unavailable",
]


class Refusal(SSEError):
    """
    A request is refused.

    :ivar status: the HTTP status of the response.
    :ivar reason: why, in one sentence, which is sent to the client.
    :ivar error: the error code in ``WWW-Authenticate``, if the token is at fault; ``""`` for that field
        without a code; ``None`` for no such field.

    Source: https://www.rfc-editor.org/rfc/rfc6750#section-3.1
    """

    status = 400
    error: str | None = None

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class BadRequest(Refusal):
    """
    The request is malformed, whatever token it presents.
    """


class TooLarge(Refusal):
    """
    A body, field or list exceeds its limit.
    """

    status = 413


class BadPresentation(Refusal):
    """
    The token is presented in a malformed or ambiguous way.
    """

    error = "invalid_request"


class MissingToken(Refusal):
    """
    The request requires a token, and presents none.
    """

    status = 401
    error = ""


class InvalidToken(Refusal):
    """
    The token is malformed, expired, or not signed by a key of this hub.

    The reason is logged.

    :ivar signed: whether one of the hub's keys signed it. Only then is the reason sent to the client: the
        client cannot have made the token up, and learns nothing of the keys.
    """

    status = 401
    error = "invalid_token"

    def __init__(self, reason: str, *, signed: bool = False) -> None:
        super().__init__(reason)
        self.signed = signed

    @property
    def disclosed(self) -> str:
        """
        The reason that is sent to the client.
        """
        return f"the token is not accepted: {self.reason}" if self.signed else "the token is not valid"


class Forbidden(Refusal):
    """
    The token is valid, but does not allow the request.
    """

    status = 403
    error = "insufficient_scope"


class Unavailable(Refusal):
    """
    The hub cannot decide now, for example while the keys of an issuer are unavailable; a retry may succeed.
    """

    status = 503
