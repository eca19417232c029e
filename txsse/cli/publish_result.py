"""
What became of an update, decided without touching anything.

Strategy: :func:`judge` takes what a hub answered, all plain values, and returns the update's id, or raises
:exc:`NotPublished`; :func:`explain` turns what befell the connection into one. Both say in one line what
to do.
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


__all__ = ["INSECURE", "NotPublished", "describe", "explain", "judge", "quote"]

_NO_TOKEN = (
    "the hub wants a token: name a file by --token-file, put it into TXSSE_TOKEN, or have one made with "
    "--key-file"
)
_BAD_TOKEN = (
    "the hub does not take the token: it has expired, or another key signed it, or it is for another hub; "
    "txsse token --decode shows what it says"
)

#: What to do about a certificate that is refused.
INSECURE = "--insecure accepts any"

_TITLE = re.compile(r"<title[^>]*>([^<]*)", re.IGNORECASE)

# What a hub says of a refusal is shown as far as this, in characters.
_MAX_REASON = 300


class NotPublished(Exception):
    """
    An update was refused, or nobody knows what became of it.
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
    Decide what an answer means.

    :param status: its status.
    :param header: returns a header field of the answer, ``None`` where there is none.
    :param body: its body.
    :param url: where the update went.
    :param topics: its topics.
    :param has_token: whether a token went with it.
    :returns: the update's id.
    :raises NotPublished: where there is none.
    """
    kind = (header("Content-Type") or "").partition(";")[0].strip().lower()
    text = body.decode("utf-8", "replace").strip()
    html = "html" in kind or text[:1] == "<"
    if 200 <= status < 300:
        if html or not text or not text.isprintable():
            raise NotPublished(_no_hub(url, f"it answered {status}, and no id"))
        return text
    said = "" if html else quote(text)
    problem = _refusal(status, header, url, topics, has_token, html)
    raise NotPublished(f"{problem} (the hub says: {said})" if said else problem)


def explain(error: Exception, url: str, certificates: Sequence[Certificate] = ()) -> NotPublished:
    """
    Say what befell the connection.

    :param certificates: those that the hub sent.
    """
    if isinstance(error, ConnectionRefusedError):
        return NotPublished(f"nobody listens at {url}; does the hub run?")
    known = describe(error, url)
    if known is not None:
        return NotPublished(known)
    tls = explain_tls(error, certificates)
    if tls is not None:
        hint = INSECURE if is_distrust(error) else "does the hub speak http, without the s?"
        return NotPublished(f"{url}: {tls}; {hint}")
    if isinstance(error, NotImplementedError):
        return NotPublished("https needs pyOpenSSL: pip install 'txsse[tls]'")
    why = _shortened(str(error)) or type(error).__name__
    what = "broke off" if isinstance(error, ConnectionClosed) else "does not answer as a hub would"
    return NotPublished(f"{url} {what} ({why}); whether it was published, is not known")


def describe(error: BaseException | None, url: str) -> str | None:
    """
    Return what befell a connection to any server; ``None`` for what has no better words than its own.
    """
    if isinstance(error, ConnectionRefusedError):
        return f"nobody listens at {url}"
    if isinstance(error, DNSLookupError):
        return f"there is no host of that name: {url}"
    if isinstance(error, (ConnectTimeout, ConnectError)):
        return f"{url} cannot be reached: {_shortened(str(error))}"
    return None


def quote(body: str, *, html: bool = False) -> str:
    """
    Return what a server says of a refusal, on one line; of a page, its title.

    :param body: the body of its reply.
    :param html: whether it is a page; otherwise it is one where it begins so.
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
        return _BAD_TOKEN if has_token else _NO_TOKEN
    if status == 403:
        return f"the token does not allow to publish to {' and '.join(topics)}"
    if status in (404, 405):
        return _no_hub(url, f"it answered {status}")
    if status == 413:
        return "the update is larger than the hub takes"
    if status in (429, 503):
        after = header("Retry-After") or ""
        when = f"in {after} seconds" if after.isascii() and after.isdigit() else "later"
        return f"the hub cannot take it at the moment; try again {when}"
    location = header("Location")
    if 300 <= status < 400 and location is not None:
        return f"the hub is somewhere else; publish to {_shortened(location)}"
    if html:
        return _no_hub(url, f"it answered {status}")
    return f"the hub answered {status}"


def _no_hub(url: str, why: str) -> str:
    return f"{url} is no hub of Mercure's: {why}; most of them are at /.well-known/mercure"


def _shortened(text: str) -> str:
    """
    Shorten what a server says.
    """
    return text if len(text) <= _MAX_REASON else text[:_MAX_REASON] + "…"
