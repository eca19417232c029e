"""
Optional packages: what installs each, and one message for all that are missing.

Every import of an optional package stands under :func:`needs`, which names the extra to install.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module

__all__ = ["PACKAGES", "MissingExtra", "extra_of", "missing", "need_tls", "needs"]

#: The packages that are imported, and for each the extra and the name to install it by.
PACKAGES = {
    "OpenSSL": ("tls", "pyOpenSSL"),
    "service_identity": ("tls", "service-identity"),
    "h2": ("http2", "h2"),
    "priority": ("http2", "priority"),
    "cryptography": ("mercure", "cryptography"),
    "jwt": ("mercure", "PyJWT"),
    "urlpattern": ("mercure", "urlpattern"),
    "prometheus_client": ("metrics", "prometheus-client"),
    "hiredis": ("redis", "hiredis"),
    "txredisapi": ("redis", "txredisapi"),
}


class MissingExtra(ImportError):
    """
    An optional package is missing; the message says what needs it, and what to install.
    """


def extra_of(error: ImportError) -> str | None:
    """
    Return the extra that would install what an import lacked; ``None`` where no extra has it.
    """
    known = PACKAGES.get((error.name or "").partition(".")[0])
    return known and known[0]


@contextmanager
def needs(extra: str, purpose: str) -> Iterator[None]:
    """
    Import optional packages::

        with needs("redis", "a journal in Redis"):
            from txredisapi import ResponseError

    :param extra: the extra that has them.
    :param purpose: what they are needed for, as the subject of a sentence.
    :raises MissingExtra: for a missing package, or one that lacks a name because it is too old.
    """
    try:
        yield
    except ImportError as error:
        named = missing(extra, purpose, error)
        if named is error:
            raise
        raise named from error


def missing(extra: str, purpose: str, error: ImportError) -> ImportError:
    """
    Return the error to raise for an import that failed.
    """
    package = (error.name or "").partition(".")[0]
    if isinstance(error, MissingExtra) or package == "txsse":
        # It has its message; or it is a fault of this package, which no installation mends.
        return error
    _, name = PACKAGES.get(package, (extra, package or "a package"))
    return MissingExtra(f"{purpose} needs {name}: pip install 'txsse[{extra}]'", name=error.name)


def need_tls(purpose: str) -> None:
    """
    Check that a client can use TLS. Without pyOpenSSL and service-identity, Twisted finds out only when it
    connects, and raises NotImplementedError.

    :param purpose: as in :func:`needs`.
    :raises MissingExtra: without them.
    """
    with needs("tls", purpose):
        import_module("OpenSSL.SSL")
        import_module("service_identity")
