# python examples/tls_http2.py, then open https://127.0.0.1:8080/ (pip install "txsse[http2]")
# TLS, with HTTP/2 if the client supports it. The certificate is self-signed: the browser will warn.

import sys
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from OpenSSL import crypto
from twisted.internet import defer, endpoints, interfaces, ssl, task
from twisted.web import resource, server, static

from txsse import SSEChannel, SSEResource

PAGE = b"""<!doctype html><html lang="en">
<meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>TLS and HTTP/2</title>
<style>:root { color-scheme: light dark; font: 1.2rem/1.5 system-ui; }</style>
<p role="timer"></p>
<script>
  const [timer] = document.getElementsByTagName("p");
  new EventSource("events").onmessage = (event) => { timer.textContent = event.data; };
</script>
"""


def self_signed() -> ssl.CertificateOptions:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    hosts = [x509.DNSName("localhost"), x509.IPAddress(ip_address("127.0.0.1"))]
    now, day = datetime.now(UTC), timedelta(days=1)
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    builder = builder.serial_number(x509.random_serial_number())
    builder = builder.not_valid_before(now - day).not_valid_after(now + day)
    builder = builder.add_extension(x509.SubjectAlternativeName(hosts), critical=False)
    certificate = crypto.X509.from_cryptography(builder.sign(key, hashes.SHA256()))
    return ssl.CertificateOptions(crypto.PKey.from_cryptography_key(key), certificate)


async def clock(channel: SSEChannel) -> AsyncIterator[str]:
    protocol = channel.request.clientproto.decode()
    while True:
        yield f"It is {datetime.now():%H:%M:%S}, and the protocol is {protocol}."
        await task.deferLater(channel.reactor, 1.0)


async def main(reactor: interfaces.IReactorCore, port: str = "8080") -> None:
    root = resource.Resource()
    root.putChild(b"", static.Data(PAGE, "text/html; charset=utf-8"))
    root.putChild(b"events", SSEResource(clock))
    endpoint = endpoints.SSL4ServerEndpoint(reactor, int(port), self_signed(), interface="127.0.0.1")
    listening = await endpoint.listen(server.Site(root))
    print(f"Open https://127.0.0.1:{listening.getHost().port}/", flush=True)
    await defer.Deferred()  # until Ctrl-C


task.react(main, sys.argv[1:])
