"""
The Content-Security-Policy of an HTML page that is one file, with its script and style inside.
"""

from __future__ import annotations

import re
from base64 import b64encode
from hashlib import sha256

__all__ = ["content_security_policy"]


def content_security_policy(page: str) -> bytes:
    """
    Return a policy that allows a page its own script and style, and requests to its own server.

    Everything else is forbidden; the script cannot create elements from text.

    Sources: https://www.w3.org/TR/CSP3/, https://www.w3.org/TR/trusted-types/
    """

    def hashes(element: str) -> str:
        texts = re.findall(f"<{element}>(.*?)</{element}>", page, re.DOTALL)
        return " ".join(f"'sha256-{b64encode(sha256(text.encode()).digest()).decode()}'" for text in texts)

    return (
        f"default-src 'none'; script-src {hashes('script')}; style-src {hashes('style')}; "
        "connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
        "require-trusted-types-for 'script'; trusted-types 'none'"
    ).encode("ascii")
