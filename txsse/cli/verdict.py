"""
What became of an update, decided without touching anything.

Strategy: :func:`judge` takes what a hub answered, all plain values, and returns the update's id, or raises
:exc:`NotPublished`; :func:`explain` turns what befell the connection into one. Both say in one line what
to do.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from twisted.internet.error import ConnectError, ConnectionClosed, ConnectionRefusedError, DNSLookupError
from twisted.internet.error import TimeoutError as ConnectTimeout

try:
    from OpenSSL.SSL import Error as TLSError
except ImportError:
    # Without it there is no TLS, and none of its errors.
    class TLSError(Exception):  # type: ignore[no-redef]
        """
        An error of TLS.
        """


try:
    from service_identity import VerificationError
except ImportError:

    class VerificationError(Exception):  # type: ignore[no-redef]
        """
        A certificate for somebody else.
        """


__all__ = ["NotPublished", "describe", "distrust", "explain", "judge"]

_NO_TOKEN = (
    "the hub wants a token: name a file by --token-file, put it into TXSSE_TOKEN, or have one made with --key"
)
_BAD_TOKEN = (
    "the hub does not take the token: it has expired, or another key signed it, or it is for another hub; "
    "txsse token --decode shows what it says"
)

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
    said = "" if html or not text else f" (the hub says: {_shortened(text)})"
    raise NotPublished(_refusal(status, header, url, topics, has_token, html) + said)


def explain(error: Exception, url: str) -> NotPublished:
    """
    Say what befell the connection.
    """
    if isinstance(error, ConnectionRefusedError):
        return NotPublished(f"nobody listens at {url}; does the hub run?")
    if isinstance(error, TLSError) and distrust(error, url) is None:
        why = _tls_reason(error)
        return NotPublished(f"there is no TLS with {url} ({why}); does the hub speak http, without the s?")
    known = describe(error, url)
    if known is not None:
        return NotPublished(known)
    if isinstance(error, NotImplementedError):
        return NotPublished("https needs pyOpenSSL: pip install 'txsse[tls]'")
    why = _shortened(str(error)) or type(error).__name__
    what = "broke off" if isinstance(error, ConnectionClosed) else "does not answer as a hub would"
    return NotPublished(f"{url} {what} ({why}); whether it was published, is not known")


def describe(error: Exception, url: str) -> str | None:
    """
    Return what befell a connection to any server; ``None`` for what has no better words than its own.
    """
    if isinstance(error, ConnectionRefusedError):
        return f"nobody listens at {url}"
    if isinstance(error, DNSLookupError):
        return f"there is no host of that name: {url}"
    if isinstance(error, (ConnectTimeout, ConnectError)):
        return f"{url} cannot be reached: {_shortened(str(error))}"
    if isinstance(error, TLSError):
        return distrust(error, url) or f"there is no TLS with {url} ({_tls_reason(error)})"
    return distrust(error, url)


def distrust(error: Exception, url: str) -> str | None:
    """
    Return why a server's certificate is refused, now and at every attempt; ``None`` for other errors.
    """
    if isinstance(error, VerificationError):
        return f"the certificate is not for the host of {url}; --insecure accepts any"
    if isinstance(error, TLSError) and "certificate verify failed" in _tls_reason(error):
        return f"the certificate of {url} is not trusted; --insecure accepts any"
    return None


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


def _tls_reason(error: Exception) -> str:
    # A list of (library, function, reason).
    reasons = error.args[0] if error.args else ()
    last = reasons[-1] if isinstance(reasons, (list, tuple)) and reasons else ("no reason",)
    return _shortened(str(last[-1]))


def _shortened(text: str) -> str:
    """
    Shorten what a server says.
    """
    return text if len(text) <= _MAX_REASON else text[:_MAX_REASON] + "…"
