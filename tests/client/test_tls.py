"""
Explanations of TLS errors, most of them from real handshakes.
"""

from __future__ import annotations

import runpy
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import pytest_twisted
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from OpenSSL import SSL
from twisted.internet import reactor
from twisted.internet.endpoints import TCP4ServerEndpoint
from twisted.internet.protocol import Factory, Protocol

from tests.integration.clients import listen_tls
from txsse import ConnectionFailed, EventSource, SSEResource
from txsse.client import tls
from txsse.client.tls import Policy, explain_tls, is_distrust

NOW = datetime.now(UTC)
DAY = timedelta(days=1)

UNVERIFIED = SSL.Error([("SSL routines", "", "certificate verify failed")])


class Signed:
    """
    A key with its certificate.

    :param days: the first and the last day of its validity, relative to now.
    :param by: the signer; ``None`` for a self-signed certificate.
    """

    def __init__(
        self,
        host: str = "localhost",
        *,
        days: tuple[int, int] = (-2, 2),
        by: Signed | None = None,
        ca: bool = False,
    ) -> None:
        self.key = ec.generate_private_key(ec.SECP256R1())
        # Each authority has its own name.
        self.name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, f"{host} {id(self)}")])
        first, last = (NOW + day * DAY for day in days)
        self.certificate = (
            x509.CertificateBuilder()
            .subject_name(self.name)
            .issuer_name(self.name if by is None else by.name)
            .public_key(self.key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(first)
            .not_valid_after(last)
            .add_extension(x509.BasicConstraints(ca, None), critical=True)
            .add_extension(x509.SubjectAlternativeName([x509.DNSName(host)]), critical=False)
            .sign(self.key if by is None else by.key, hashes.SHA256())
        )

    def pem(self) -> bytes:
        return self.certificate.public_bytes(serialization.Encoding.PEM)

    def key_pem(self) -> bytes:
        return self.key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )


AUTHORITY = Signed("authority", ca=True)


async def error_at(url: str) -> ConnectionFailed:
    """
    Return the error that ends an event source for a URL.
    """
    source = EventSource(url, max_attempts=1)
    source.start()
    error = await source.when_closed()
    assert isinstance(error, ConnectionFailed)
    return error


class CertificateTests:
    @pytest.mark.parametrize(
        ("signed", "flaw"),
        [
            (Signed(days=(-2, -1), by=AUTHORITY), f"expired on {NOW - DAY:%Y-%m-%d}"),
            (Signed(days=(1, 2), by=AUTHORITY), f"is not valid before {NOW + DAY:%Y-%m-%d}"),
            (Signed("other.example", by=AUTHORITY), "is for another host"),
            (Signed(), "is self-signed"),
            (
                Signed(by=Signed("unknown", ca=True)),
                "is not signed by an authority that this machine trusts",
            ),
        ],
        ids=["expired", "not valid yet", "another host", "self-signed", "unknown authority"],
    )
    @pytest_twisted.ensureDeferred
    async def test_flaw(
        self,
        signed: Signed,
        flaw: str,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        failures: list[object],
    ) -> None:
        """
        The error names the flaw of the server's certificate, and no other error is logged.
        """
        (tmp_path / "authority.pem").write_bytes(AUTHORITY.pem())
        (tmp_path / "server.pem").write_bytes(signed.key_pem() + signed.pem())
        monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "authority.pem"))
        port = await listen_tls(SSEResource(lambda channel: None), tmp_path / "server.pem")
        url = f"https://localhost:{port.getHost().port}/"
        error = await error_at(url)
        await port.stopListening()
        assert str(error) == f"{url}: the server's certificate {flaw}"
        assert is_distrust(error.__cause__)
        assert failures == []

    @pytest_twisted.ensureDeferred
    async def test_good(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """
        The client opens a stream if the server's certificate is signed by a trusted authority.
        """
        signed = Signed(by=AUTHORITY)
        (tmp_path / "authority.pem").write_bytes(AUTHORITY.pem())
        (tmp_path / "server.pem").write_bytes(signed.key_pem() + signed.pem())
        monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "authority.pem"))
        port = await listen_tls(SSEResource(lambda channel: channel.send("a")), tmp_path / "server.pem")
        source = EventSource(f"https://localhost:{port.getHost().port}/", max_attempts=1)
        assert (await source.__anext__()).data == "a"
        source.close()
        await port.stopListening()

    def test_issuer(self) -> None:
        """
        The error names the certificate that expired if it is the one that signed the server's.
        """
        old = Signed("old", days=(-3, -1), by=AUTHORITY, ca=True)
        chain = [Signed(by=old).certificate, old.certificate]
        expired = f"is signed by another certificate that expired on {NOW - DAY:%Y-%m-%d}"
        assert explain_tls(UNVERIFIED, chain) == f"the server's certificate {expired}"

    def test_no_certificates(self) -> None:
        """
        Without the server's certificates, the error only says that the certificate is not trusted.
        """
        assert Policy().certificates() == []
        assert explain_tls(UNVERIFIED) == "the server's certificate is not trusted"

    def test_malformed_certificate(self) -> None:
        """
        A certificate that cannot be parsed raises no error; the error then only says that it is not trusted.
        """

        class Connection:
            def get_peer_cert_chain(self) -> list[Connection]:
                return [self]

            def to_cryptography(self) -> None:
                raise ValueError("error parsing asn1 value")

        policy, connection = Policy(), Connection()
        policy.connected(connection)  # type: ignore[arg-type]
        assert policy.certificates() == []
        assert explain_tls(UNVERIFIED, [connection]) == "the server's certificate is not trusted"  # type: ignore[list-item]


class HandshakeTests:
    @pytest_twisted.ensureDeferred
    async def test_not_tls(self) -> None:
        """
        For a server that does not speak TLS, the error says so, and not that a certificate is refused.
        """

        class Other(Protocol):
            def connectionMade(self) -> None:
                assert self.transport is not None
                self.transport.write(b"SSH-2.0-OpenSSH_9.2\r\n")

        port = await TCP4ServerEndpoint(reactor, 0, interface="127.0.0.1").listen(Factory.forProtocol(Other))
        error = await error_at(f"https://127.0.0.1:{port.getHost().port}/")
        await port.stopListening()
        assert "the server does not speak TLS on this port" in str(error)
        assert not is_distrust(error.__cause__)

    @pytest_twisted.ensureDeferred
    async def test_plain_http_to_a_tls_port(self, certificate: Path) -> None:
        """
        If a server closes an http connection without a reply, the error suggests https.
        """
        port = await listen_tls(SSEResource(lambda channel: None), certificate)
        error = await error_at(f"http://127.0.0.1:{port.getHost().port}/")
        await port.stopListening()
        assert "closed the connection without a reply; does the server expect https?" in str(error)

    @pytest.mark.parametrize(
        ("arguments", "words"),
        [
            (
                [[("SSL routines", "", "http request")]],
                "the server does not speak TLS on this port (http request)",
            ),
            (
                [[("", "", "a"), ("", "", "internal error")]],
                "TLS failed (internal error)",
            ),
            ([-1, "Unexpected EOF"], "TLS failed (Unexpected EOF)"),
            ([[]], "TLS failed (no reason given)"),
            ([[("", "", None)]], "TLS failed (no reason given)"),
            ([], "TLS failed (no reason given)"),
            ([5], "TLS failed (no reason given)"),
        ],
    )
    def test_reasons(self, arguments: list[object], words: str) -> None:
        """
        The explanation contains the reason from OpenSSL's error, whatever its arguments are.
        """
        assert explain_tls(SSL.Error(*arguments)) == words

    def test_other_errors(self) -> None:
        """
        Errors of other libraries are not explained as TLS errors.
        """
        assert explain_tls(ValueError("x")) is None
        assert not is_distrust(ValueError("certificate verify failed"))
        assert not is_distrust(None)

    def test_without_openssl(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """
        Without pyOpenSSL and service-identity, the module can be imported, and explains no error.
        """
        monkeypatch.setitem(sys.modules, "OpenSSL.SSL", None)
        monkeypatch.setitem(sys.modules, "service_identity", None)
        names = runpy.run_path(tls.__file__)
        assert names["explain_tls"](UNVERIFIED) is None
