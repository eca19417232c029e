"""
URLs that the service is told.
"""

from __future__ import annotations

import re
from urllib.parse import urlsplit

__all__ = ["check_hub_url", "check_url"]

# https://www.rfc-editor.org/rfc/rfc3986#section-2
_CHARACTERS = re.compile(r"[A-Za-z0-9._~:/?#\[\]@!$&'()*+,;=%-]*", re.ASCII)


def check_url(url: str) -> None:
    """
    See that a URL can be one.

    :raises ValueError: with what is wrong. Where that may be a password, the URL is not shown.
    """
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:
        raise ValueError("it has a host or a port that is none; one is https://example.org:8443/") from None
    if "@" in parts.netloc:
        raise ValueError("it holds a user or a password; leave them out: whoever is told the URL sees them")
    if not _CHARACTERS.fullmatch(url):
        raise ValueError(
            f"{_without_query(url)!r} holds what cannot stand in a URL; leave out spaces, and write a host "
            "in another script as xn--"
        )


def _without_query(url: str) -> str:
    # All of it: with a space in it, nobody can tell where a token in it ends.
    path, mark, _ = url.partition("?")
    return f"{path}?***" if mark else path


def check_hub_url(url: str) -> None:
    """
    See that a URL is one at which a hub can be found.

    :raises ValueError: with what is wrong.
    """
    check_url(url)
    segments = urlsplit(url).path.split("/")
    # Its path is compared with what requests have, which is decoded by then, and which clients have resolved.
    if any("%" in segment or segment in (".", "..") for segment in segments):
        raise ValueError(f"{url!r}: nobody would find a hub there; take a path without %, . and ..")
