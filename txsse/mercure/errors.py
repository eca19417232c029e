"""
What a request is refused with.
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
    A request gets another answer than it wants.

    :ivar status: the status of the answer.
    :ivar reason: why, in one sentence, which the client is told.
    :ivar error: what the challenge calls it, where the token is at fault; ``""`` for a challenge without a
        name; ``None`` for no challenge.

    Source: https://www.rfc-editor.org/rfc/rfc6750#section-3.1
    """

    status = 400
    error: str | None = None

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class BadRequest(Refusal):
    """
    The request says nothing that makes sense, whoever sends it.
    """


class TooLarge(Refusal):
    """
    There is more of something than is taken.
    """

    status = 413


class BadPresentation(Refusal):
    """
    The token is not presented as it should be.
    """

    error = "invalid_request"


class MissingToken(Refusal):
    """
    There is no token, and it takes one.
    """

    status = 401
    error = ""


class InvalidToken(Refusal):
    """
    The token is none, or none of ours, or not any more. The log says why.

    :ivar signed: whether one of the hub's keys has signed it. Then the answer says why, too: the client did
        not make the token up, and learns nothing of the keys.
    """

    status = 401
    error = "invalid_token"

    def __init__(self, reason: str, *, signed: bool = False) -> None:
        super().__init__(reason)
        self.signed = signed

    @property
    def disclosed(self) -> str:
        """
        The reason that the client is told.
        """
        return f"the token is not accepted: {self.reason}" if self.signed else "the token is not good"


class Forbidden(Refusal):
    """
    The token is good, and not for that.
    """

    status = 403
    error = "insufficient_scope"


class Unavailable(Refusal):
    """
    Nobody can tell at the moment. Later it may be told.
    """

    status = 503
