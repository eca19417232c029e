"""
Tests whether a topic is written the same as the URL that it resolves to.

A URI template matches the text of a topic. A URL pattern matches the URL that the text resolves to. If the
two differ, as in ``https://example.com/users/1/../2``, a token could reach topics through one kind of matcher
that the other kind takes for different topics. Templates therefore match only topics that are written as
their URL.

Source: https://url.spec.whatwg.org/#url-parsing
"""

from __future__ import annotations

from functools import lru_cache
from urllib.parse import quote

from urlpattern import URLPattern

__all__ = ["is_resolved"]

# This pattern matches every URL and returns its parts: the parser is the one that URL patterns use.
_ANY_URL = URLPattern({})

# Schemes whose URLs have an authority: https://url.spec.whatwg.org/#special-scheme
_SPECIAL = frozenset({"file", "ftp", "http", "https", "ws", "wss"})

# The characters that a URI may contain: https://www.rfc-editor.org/rfc/rfc3986#appendix-A
_URI = "-._~:/?#[]@!$&'()*+,;=%"


# Every template tests one topic before any template tests the next.
@lru_cache(maxsize=8)
def is_resolved(topic: str, base: str) -> bool:
    """
    Return whether resolving a topic as a URL leaves its text unchanged.

    The topic may be an absolute URL, an absolute path, or a path relative to the base. It must not have a dot
    segment (``..``, ``%2e``), backslash, tab, leading or trailing space, upper case in its scheme or host, or
    a default port. A character that a URI must not contain is equal to its percent-encoded form.

    The result is false for topics that cannot be resolved, that have user information, that begin with
    ``//``, that have an authority and no path, or that end with an empty query or fragment.

    :param base: the URL that relative topics are resolved against.
    """
    urls = _resolve(topic, base)
    origin, directory = _prefixes(base)
    written = _encode(topic)
    return any(prefix + written in urls for prefix in ("", origin, directory))


def _encode(text: str) -> str:
    return quote(text, safe=_URI)


def _resolve(topic: str, base: str) -> list[str]:
    """
    Return the URL that a topic resolves to, in each spelling that its parsed parts may stand for.

    The list is empty if the topic cannot be resolved or has user information.
    """
    parts = _ANY_URL.exec(topic, base)
    if parts is None:
        return []
    scheme, user, password, host, port, path, query, fragment = (
        parts[name]["input"]
        for name in ("protocol", "username", "password", "hostname", "port", "pathname", "search", "hash")
    )
    if user or password:
        return []
    rest = path + (f"?{query}" if query else "") + (f"#{fragment}" if fragment else "")
    authority = f"//{host}:{port}" if port else f"//{host}"
    # urn:a has no authority, x:///a an empty one.
    authorities = [authority] if host or scheme in _SPECIAL else ["", authority]
    return [_encode(f"{scheme}:{each}{rest}") for each in authorities]


@lru_cache(maxsize=8)
def _prefixes(base: str) -> tuple[str, str]:
    """
    Return the texts that precede an absolute path, and a relative path, in the URL of a topic.
    """
    urls = _resolve(base, base)
    if not urls:
        # Against such a base, no relative topic can be resolved, or it would have user information.
        return "", ""
    directory = urls[0].rpartition("/")[0]
    return "/".join(directory.split("/")[:3]), f"{directory}/"
