"""
Imports of optional packages, with one error message for a missing one, which names the extra to install.

Every import of an optional package is wrapped in :func:`needs`.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module

__all__ = ["PACKAGES", "MissingExtra", "extra_of", "missing", "need_tls", "needs"]

#: The optional packages, by the names that imports use: the extra of each, and its name in the package index.
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
    An optional package is missing; the message says which feature needs it, and what to install.
    """


def extra_of(error: ImportError) -> str | None:
    """
    Return the extra that installs the missing package of an import error; ``None`` if no extra has it.
    """
    known = PACKAGES.get((error.name or "").partition(".")[0])
    return known and known[0]


@contextmanager
def needs(extra: str, purpose: str) -> Iterator[None]:
    """
    Name the extra to install if an import of optional packages fails.

    For example::

        with needs("redis", "a journal in Redis"):
            from txredisapi import ResponseError

    :param extra: the extra that installs them.
    :param purpose: the feature that needs them, as the subject of a sentence.
    :raises MissingExtra: if a package is missing, or so old that it lacks an imported name.
    """
    try:
        yield
    except ImportError as error:
        explained = missing(extra, purpose, error)
        if explained is error:
            raise
        raise explained from error


def missing(extra: str, purpose: str, error: ImportError) -> ImportError:
    """
    Return the error to raise for a failed import: a :exc:`MissingExtra`, or the error itself.
    """
    package = (error.name or "").partition(".")[0]
    if isinstance(error, MissingExtra) or package == "txsse":
        # A MissingExtra already names the extra. A missing module of txsse is a bug, and no package helps.
        return error
    _, name = PACKAGES.get(package, (extra, package or "a package"))
    return MissingExtra(f"{purpose} needs {name}: pip install 'txsse[{extra}]'", name=error.name)


def need_tls(purpose: str) -> None:
    """
    Check that the packages for TLS are installed.

    Without pyOpenSSL and service-identity, Twisted raises NotImplementedError, and only when it connects.

    :param purpose: as in :func:`needs`.
    :raises MissingExtra: if one of them is missing.
    """
    with needs("tls", purpose):
        import_module("OpenSSL.SSL")
        import_module("service_identity")
