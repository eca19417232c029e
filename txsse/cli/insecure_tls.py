"""
TLS without verification of certificates, for ``--insecure``: local servers with self-signed certificates.
"""

from __future__ import annotations

from twisted.internet.interfaces import IOpenSSLClientConnectionCreator
from twisted.web.iweb import IPolicyForHTTPS
from zope.interface import implementer

try:
    from OpenSSL import SSL
except ImportError:
    # Without pyOpenSSL, TLS is unavailable, and Twisted reports that.
    SSL = None  # type: ignore[assignment]

__all__ = ["TrustAnyone"]


@implementer(IPolicyForHTTPS)
class TrustAnyone:
    """
    Accept any certificate. The connection is encrypted, but the server is not authenticated.
    """

    def creatorForNetloc(  # noqa: N802
        self, hostname: bytes, port: int
    ) -> IOpenSSLClientConnectionCreator:
        """
        Return an object that creates TLS connections to a host.
        """
        return _Creator(hostname)


@implementer(IOpenSSLClientConnectionCreator)
class _Creator:
    def __init__(self, hostname: bytes) -> None:
        self._hostname = hostname

    def clientConnectionForTLS(self, protocol: object) -> SSL.Connection:  # noqa: N802
        connection = SSL.Connection(SSL.Context(SSL.TLS_CLIENT_METHOD), None)
        connection.set_app_data(protocol)
        connection.set_tlsext_host_name(self._hostname)
        return connection
