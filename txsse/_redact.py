"""
Secrets in URLs: removes them from log lines and messages, and detects them on a command line.

Every user of the machine can read a command line, and people read logs who must not have the permissions of
the secret.
"""

from __future__ import annotations

import re

__all__ = ["holds_secret", "without_secrets"]

# Up to the last @ that may belong to the URL: a password without percent-encoding may contain slashes, spaces
# and more. The expression removes too much rather than too little. The length of schemes is bounded:
# otherwise matching a long word, such as a server's Location, takes quadratic time.
_PASSWORD = re.compile(r"([a-z][a-z0-9+.-]{0,30}://[^\s:/?#@]*):(?:[^,]*@|\S*@)", re.IGNORECASE)

_URL = re.compile(r"[a-z][a-z0-9+.-]{0,30}://\S+", re.IGNORECASE)

# A field of a query or a fragment, without the quotes and full stops that follow a URL in a sentence.
_FIELD = re.compile(r"([?&#])([^\s?&#=]*=)?([^\s?&#]*?)(?=[\]'\")>,;:.]*(?:[?&#]|$))")

# Names of fields whose value is a secret in every service that uses them.
_SECRET_FIELD = re.compile(
    r"[?&#](?:[\w.-]*(?:token|secret|passw|authorization|api[_-]?key|signature|credential)[\w.-]*"
    r"|auth|key|sig|code|jwt)=[^\s&#]",
    re.IGNORECASE,
)

# The number of a Redis database: shown, since it is no secret.
_PUBLIC_FIELD = "db="


def without_secrets(text: str) -> str:
    """
    Return a text without the passwords and query values of its URLs.

    Every query value is removed, because any of them may be a token.
    """
    return _URL.sub(_without_query, _PASSWORD.sub(r"\1:***@", text))


def holds_secret(text: str) -> bool:
    """
    Return whether a text contains a URL with a password, or with a token in its query.
    """
    return any(pattern.search(text) for pattern in (_PASSWORD, _SECRET_FIELD))


def _without_query(url: re.Match[str]) -> str:
    return _FIELD.sub(_without_value, url[0])


def _without_value(field: re.Match[str]) -> str:
    mark, name, value = field.groups()
    return field[0] if not value or name == _PUBLIC_FIELD else f"{mark}{name or ''}***"
