"""
Decide whether a hub has published an update, and explain failures in one line that says what to do.

Strategy: :func:`judge` takes a hub's response, all plain values, and returns the update's ID, or raises
:exc:`NotDone`; :func:`explain` converts a connection error to a :exc:`NotDone`. Neither does any
I/O.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from html import unescape
from typing import TYPE_CHECKING

from twisted.internet.error import ConnectError, ConnectionClosed, ConnectionRefusedError, DNSLookupError
from twisted.internet.error import TimeoutError as ConnectTimeout

from txsse.client.tls import explain_tls, is_distrust

if TYPE_CHECKING:
    from cryptography.x509 import Certificate


__all__ = [
    "BAD_TOKEN",
    "INSECURE",
    "NO_TOKEN",
    "PUBLISHED",
    "NotDone",
    "describe",
    "explain",
    "judge",
    "not_a_hub",
    "quote",
    "when_to_retry",
]

#: The advice about a missing token.
NO_TOKEN = (
    "the hub requires a token; give --token-file or --key-file, or set the environment variable TXSSE_TOKEN"
)

#: The advice about a token that is not accepted.
BAD_TOKEN = (
    "the hub refuses the token: it has expired, or another key signed it, or it is for another hub; "
    "txsse token --decode shows its claims"
)

#: The success of a publication.
PUBLISHED = "the update was published"

#: The advice about a refused certificate.
INSECURE = "--insecure accepts any certificate"

_TITLE = re.compile(r"<title[^>]*>([^<]*)", re.IGNORECASE)

# The largest part of a hub's error message that is shown, in characters.
_MAX_REASON = 300


class NotDone(Exception):
    """
    The hub refused a request, or the outcome is unknown.
    """


def judge(
    status: int,
    header: Callable[[str], str | None],
    body: bytes,
    *,
    url: str,
    topics: Sequence[str],
    has_token: bool,
) -> str:
    """
    Return the ID of an update from the hub's response.

    :param status: the response's status.
    :param header: returns a header field of the response, ``None`` if the field is missing.
    :param body: the response's body.
    :param url: the hub's URL.
    :param topics: the update's topics.
    :param has_token: whether the request contained a token.
    :returns: the update's ID.
    :raises NotDone: if the hub did not publish the update.
    """
    kind = (header("Content-Type") or "").partition(";")[0].strip().lower()
    text = body.decode("utf-8", "replace").strip()
    html = "html" in kind or text[:1] == "<"
    if 200 <= status < 300:
        if html or not text or not text.isprintable():
            raise NotDone(not_a_hub(url, f"it answered {status} without an ID"))
        return text
    said = "" if html else quote(text)
    problem = _refusal(status, header, url, topics, has_token, html)
    raise NotDone(f"{problem} (the hub says: {said})" if said else problem)


def explain(
    error: Exception, url: str, certificates: Sequence[Certificate] = (), *, success: str = PUBLISHED
) -> NotDone:
    """
    Convert a connection error.

    :param certificates: the certificates that the hub sent.
    :param success: what would have happened in case of success.
    """
    if isinstance(error, ConnectionRefusedError):
        return NotDone(f"no server listens at {url}; is the hub running?")
    known = describe(error, url)
    if known is not None:
        return NotDone(known)
    tls = explain_tls(error, certificates)
    if tls is not None:
        hint = INSECURE if is_distrust(error) else "does the hub speak http, without the s?"
        return NotDone(f"{url}: {tls}; {hint}")
    if isinstance(error, NotImplementedError):
        return NotDone("https needs pyOpenSSL: pip install 'txsse[tls]'")
    why = _shortened(str(error)) or type(error).__name__
    what = (
        "broke the connection off"
        if isinstance(error, ConnectionClosed)
        else "does not answer as a hub would"
    )
    return NotDone(f"{url} {what} ({why}); it is unknown whether {success}")


def describe(error: BaseException | None, url: str) -> str | None:
    """
    Explain why a connection to a server failed; return ``None`` if the error's own text is the best one.
    """
    if isinstance(error, ConnectionRefusedError):
        return f"no server listens at {url}"
    if isinstance(error, DNSLookupError):
        return f"the host does not exist: {url}"
    if isinstance(error, (ConnectTimeout, ConnectError)):
        return f"{url} cannot be reached: {_shortened(str(error))}"
    return None


def quote(body: str, *, html: bool = False) -> str:
    """
    Return a server's reason for a refusal, on one line; for an HTML page, its title.

    :param body: the body of the response.
    :param html: whether it is an HTML page; otherwise, it is one if it begins with ``<``.
    """
    text = body.strip()
    if html or text[:1] == "<":
        found = _TITLE.search(text)
        text = unescape(found[1]) if found else ""
    return _shortened(" ".join(text.split()))


def _refusal(
    status: int,
    header: Callable[[str], str | None],
    url: str,
    topics: Sequence[str],
    has_token: bool,
    html: bool,
) -> str:
    if status == 401:
        return BAD_TOKEN if has_token else NO_TOKEN
    if status == 403:
        return f"the token does not allow publishing to {' and '.join(topics)}"
    if status in (404, 405):
        return not_a_hub(url, f"it answered {status}")
    if status == 413:
        return "the update is larger than the hub accepts"
    if status == 501 and not html:
        return "the journal of the hub does not retain updates; publish without --retain"
    if status == 507 and not html:
        return "the hub has no room to retain the update, and has not published it"
    if status in (429, 503):
        return f"the hub cannot accept the update at the moment; try again {when_to_retry(header)}"
    location = header("Location")
    if 300 <= status < 400 and location is not None:
        return f"the hub is at another URL; publish to {_shortened(location)}"
    if html:
        return not_a_hub(url, f"it answered {status}")
    return f"the hub answered {status}"


def when_to_retry(header: Callable[[str], str | None]) -> str:
    """
    Return when a response asks clients to try again.
    """
    after = header("Retry-After") or ""
    return f"in {after} seconds" if after.isascii() and after.isdigit() else "later"


def not_a_hub(url: str, why: str) -> str:
    """
    Return the message about a URL that is not a hub's.
    """
    return f"{url} is not a Mercure hub: {why}; most hubs are at /.well-known/mercure"


def _shortened(text: str) -> str:
    """
    Shorten a text of the server.
    """
    return text if len(text) <= _MAX_REASON else text[:_MAX_REASON] + "…"
