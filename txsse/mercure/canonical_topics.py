"""
Whether a topic is written as the URL that it resolves to.

A URI template reads a topic's text, a URL pattern the URL that the text resolves to. Where the two differ, as
in ``https://example.com/users/1/../2``, a grant by one kind of matcher would reach topics that the other kind
takes for different ones. So templates select only topics that are written as their URL is.

Source: https://url.spec.whatwg.org/#url-parsing
"""

from __future__ import annotations

from functools import lru_cache
from urllib.parse import quote

from urlpattern import URLPattern

__all__ = ["is_resolved"]

# It matches every URL, and returns the parts: the parser is the one that URL patterns use.
_ANY_URL = URLPattern({})

# Schemes whose URLs have an authority, https://url.spec.whatwg.org/#special-scheme.
_SPECIAL = frozenset({"file", "ftp", "http", "https", "ws", "wss"})

# The characters that a URI may have, https://www.rfc-editor.org/rfc/rfc3986#appendix-A.
_URI = "-._~:/?#[]@!$&'()*+,;=%"


# All templates are asked about one topic before the next.
@lru_cache(maxsize=8)
def is_resolved(topic: str, base: str) -> bool:
    """
    Tell whether a topic is a URL, or the path of one or its last segments, and resolving changes nothing in
    it: it has no dot segment (``..``, ``%2e``), backslash, tab or outer space, no upper case in its scheme or
    host, and no default port. Characters that a URI may not have may stand for what encodes them.

    Topics that cannot be resolved are not, nor are those that hold user information, begin with ``//``, have
    an authority and no path, or end with an empty query or fragment.

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
    Write the URL that a topic resolves to, in each way that its parts do not tell apart.
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
    # urn:a has none, x:///a an empty one.
    authorities = [authority] if host or scheme in _SPECIAL else ["", authority]
    return [_encode(f"{scheme}:{each}{rest}") for each in authorities]


@lru_cache(maxsize=8)
def _prefixes(base: str) -> tuple[str, str]:
    """
    Return what the URLs of topics begin with that are paths, and ends of paths.
    """
    urls = _resolve(base, base)
    if not urls:
        # No relative topic can be resolved against such a base, or it would hold user information.
        return "", ""
    directory = urls[0].rpartition("/")[0]
    return "/".join(directory.split("/")[:3]), f"{directory}/"
