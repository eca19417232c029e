"""
TLS connections to a server, and explanations of TLS errors.

OpenSSL reports the same error for every certificate that it refuses: the verification failed. The
certificates that the server sent show the reason. :class:`Policy` leaves the verification to Twisted and
OpenSSL, and keeps the certificates for the explanation.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING
from weakref import ReferenceType, ref

from twisted.internet.interfaces import IOpenSSLClientConnectionCreator
from twisted.web.client import BrowserLikePolicyForHTTPS
from twisted.web.iweb import IPolicyForHTTPS
from zope.interface import implementer

if TYPE_CHECKING:
    from cryptography.x509 import Certificate
    from OpenSSL.SSL import Connection
    from twisted.protocols.tls import TLSMemoryBIOProtocol

try:
    from OpenSSL.SSL import Error as TLSError
except ImportError:
    # Without pyOpenSSL, TLS is unavailable, and no error of TLS can happen.
    class TLSError(Exception):  # type: ignore[no-redef]
        """
        An error of TLS.
        """


try:
    from service_identity import VerificationError
except ImportError:

    class VerificationError(Exception):  # type: ignore[no-redef]
        """
        A certificate for another host.
        """


__all__ = ["Policy", "TLSError", "explain_tls", "is_distrust"]

# OpenSSL's reasons for a reply that is not TLS. The second one is for a reply in HTTP, and the last one is
# that of OpenSSL 3.2 and newer for both.
_NO_TLS = frozenset(
    [
        "wrong version number",
        "http request",
        "packet length too long",
        "unknown protocol",
        "record layer failure",
    ]
)

# The flaw of a certificate if nothing more is known.
_UNTRUSTED = "is not trusted"


@implementer(IPolicyForHTTPS)
class Policy:
    """
    Verify certificates as browsers do, and keep those of the last connection.
    """

    def __init__(self) -> None:
        self._policy: BrowserLikePolicyForHTTPS | None = None
        self._last: ReferenceType[Connection] | None = None

    def creatorForNetloc(  # noqa: N802
        self, hostname: bytes, port: int
    ) -> IOpenSSLClientConnectionCreator:
        """
        Return an object that creates TLS connections to a host.
        """
        # It is created at the first use: without pyOpenSSL, that fails.
        self._policy = self._policy or BrowserLikePolicyForHTTPS()
        return _Creator(self, self._policy.creatorForNetloc(hostname, port))

    def connected(self, connection: Connection) -> None:
        """
        Note the last connection, by a weak reference.
        """
        self._last = ref(connection)

    def certificates(self) -> Sequence[Certificate]:
        """
        Return the certificates that the server of the last connection sent; the server's own is the first.
        """
        connection = None if self._last is None else self._last()
        try:
            chain = None if connection is None else connection.get_peer_cert_chain()
            return [certificate.to_cryptography() for certificate in chain or ()]
        except Exception:
            # They come from a server that is not trusted, and may be malformed.
            return []


@implementer(IOpenSSLClientConnectionCreator)
class _Creator:
    def __init__(self, policy: Policy, creator: IOpenSSLClientConnectionCreator) -> None:
        self._policy = policy
        self._creator = creator

    def clientConnectionForTLS(self, protocol: TLSMemoryBIOProtocol) -> Connection:  # noqa: N802
        connection = self._creator.clientConnectionForTLS(protocol)
        self._policy.connected(connection)
        return connection


def is_distrust(error: BaseException | None) -> bool:
    """
    Return whether the client refuses the server's certificate, which it will do at every attempt.
    """
    if isinstance(error, TLSError):
        return _reason_of(error) == "certificate verify failed"
    return isinstance(error, VerificationError)


def explain_tls(error: BaseException, certificates: Sequence[Certificate] = ()) -> str | None:
    """
    Explain a TLS error.

    :param error: the exception of OpenSSL or service_identity.
    :param certificates: the certificates that the server sent, if they are known.
    :returns: an explanation; ``None`` for exceptions of other libraries.
    """
    if isinstance(error, VerificationError):
        return "the server's certificate is for another host"
    if is_distrust(error):
        try:
            flaw = _flaw_of(certificates)
        except Exception:
            # A malformed certificate, or a version of cryptography before 42, which has no times with a zone.
            flaw = _UNTRUSTED
        return f"the server's certificate {flaw}"
    if not isinstance(error, TLSError):
        return None
    reason = _reason_of(error)
    if reason in _NO_TLS:
        return f"the server does not speak TLS on this port ({reason})"
    return f"TLS failed ({reason or 'no reason given'})"


def _flaw_of(certificates: Sequence[Certificate]) -> str:
    if not certificates:
        return _UNTRUSTED
    now = datetime.now(UTC)
    for certificate in certificates:
        whose = "" if certificate is certificates[0] else "is signed by another certificate that "
        if certificate.not_valid_after_utc < now:
            return f"{whose}expired on {certificate.not_valid_after_utc:%Y-%m-%d}"
        if certificate.not_valid_before_utc > now:
            return f"{whose}is not valid before {certificate.not_valid_before_utc:%Y-%m-%d}"
    if len(certificates) == 1 and certificates[0].issuer == certificates[0].subject:
        return "is self-signed"
    return "is not signed by an authority that this machine trusts"


def _reason_of(error: Exception) -> str:
    # The first argument may be a list of (library, function, reason).
    reason: object = error.args[-1] if error.args else ""
    while reason and isinstance(reason, (list, tuple)):
        reason = reason[-1]
    return reason if isinstance(reason, str) else ""
