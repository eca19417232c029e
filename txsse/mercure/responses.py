"""
Responses other than streams: refusals, failures and challenges.
"""

from __future__ import annotations

from twisted.python.failure import Failure
from twisted.web.http import Request

from txsse._rate_limited_log import RateLimitedLog
from txsse.errors import (
    HubStopped,
    InvalidField,
    JournalFailed,
    NotRetained,
    RetainedFull,
    RetainUnsupported,
    UpdateTooLarge,
)
from txsse.mercure.errors import InvalidToken, Refusal
from txsse.mercure.settings import Settings
from txsse.web.responses import send_response

__all__ = ["RETRY_AFTER", "challenge", "failed", "metadata_path", "refused", "segments_below"]

# The Retry-After field of temporary errors, in seconds.
RETRY_AFTER = b"5"


def segments_below(request: Request) -> list[str]:
    """
    Return the decoded segments of a request's path that follow the path of its resource.
    """
    # Only the requests of twisted.web.server have this attribute.
    below: list[bytes] = request.postpath  # type: ignore[attr-defined]
    return [segment.decode("utf-8", "replace") for segment in below]


def refused(request: Request, refusal: Refusal, settings: Settings) -> None:
    """
    Send the response for a refusal.
    """
    if refusal.error is not None:
        request.setHeader(b"WWW-Authenticate", challenge(refusal.error, settings).encode())
    if refusal.status == 503:
        request.setHeader(b"Retry-After", RETRY_AFTER)
    # A client may have made its token up to learn from the reason which keys the hub has.
    reason = refusal.disclosed if isinstance(refusal, InvalidToken) else refusal.reason
    send_response(request, refusal.status, reason)


def failed(failure: Failure, request: Request, settings: Settings, failures: RateLimitedLog) -> None:
    """
    Send the response for a request that failed.

    :param failures: the log for unexpected failures. Refusals and expected errors are not logged here.
    """
    error = failure.value
    if isinstance(error, Refusal):
        refused(request, error, settings)
    elif isinstance(error, InvalidField):
        send_response(request, 400, str(error))
    elif isinstance(error, UpdateTooLarge):
        send_response(request, 413, str(error))
    elif isinstance(error, RetainedFull):
        send_response(request, 507, str(error))
    elif isinstance(error, NotRetained):
        send_response(request, 404, "no update with this key is retained under these topics")
    elif isinstance(error, RetainUnsupported):
        send_response(
            request, 501, "the journal of this hub retains no updates; use a memory, SQLite or Redis journal"
        )
    elif isinstance(error, JournalFailed | HubStopped):
        request.setHeader(b"Retry-After", RETRY_AFTER)
        why = "the hub is shutting down" if isinstance(error, HubStopped) else "the journal is not writable"
        if isinstance(error, JournalFailed) and error.uncertain:
            why += "; the update may have been stored: publish it again, with the same id"
        send_response(request, 503, why)
    elif isinstance(error, MemoryError):
        failures.error("{request} failed: the process is out of memory", request=request)
        request.setHeader(b"Retry-After", RETRY_AFTER)
        send_response(request, 503, "the hub is out of memory")
    else:
        failures.failure("{request} failed", failure, request=request)
        send_response(request, 500, "internal error; see the log of the hub")


def challenge(error: str, settings: Settings) -> str:
    """
    Return the value of ``WWW-Authenticate``, with the URL of the hub's OAuth metadata.

    :param error: the OAuth error code; ``""`` for none.

    Source: https://www.rfc-editor.org/rfc/rfc9728#section-5.1
    """
    code = [f'error="{error}"'] if error else []
    return "Bearer " + ", ".join([*code, f'resource_metadata="{settings.origin}{metadata_path(settings)}"'])


def metadata_path(settings: Settings) -> str:
    """
    Return the path of the hub's OAuth metadata (Protected Resource Metadata).

    Source: https://www.rfc-editor.org/rfc/rfc9728#section-3.1
    """
    return f"/.well-known/oauth-protected-resource{settings.path}"
