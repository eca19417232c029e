"""
Runs nginx, HAProxy and Caddy as processes, each with its file from the documentation, and nodes of the hub.
"""

from __future__ import annotations

import os
import re
import shutil
import socket
import ssl
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.mercure.world import PATH
from tests.processes import ROOT, free_port, start
from tests.service.process import HUB_URL, Process, get, running, token
from tests.waiting import PATIENCE, wait_until

if TYPE_CHECKING:
    import httpx
else:
    httpx = pytest.importorskip("httpx", reason="pip install httpx")

FOLDER = ROOT / "docs" / "deployment"

# The addresses in the files of the first and the second node, and the port of their health checks.
ONE, TWO, STATUS = "10.0.0.11:8080", "10.0.0.12:8080", "9090"

# Two addresses, because some proxies' files have the same port for both nodes.
HOSTS = ("127.0.0.1", "127.0.0.2")

METADATA = "/.well-known/oauth-protected-resource/.well-known/mercure"


def put(text: str, *replacements: tuple[str, str]) -> str:
    """
    Replace texts, and fail if one does not occur.
    """
    for old, new in replacements:
        assert old in text, old
        text = text.replace(old, new)
    return text


def configure_nginx(directory: Path, port: int, certificate: Path) -> tuple[str, list[str]]:
    places = "".join(
        f"{name}_temp_path {directory}/{name}; "
        for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    text = put(
        (FOLDER / "nginx.conf").read_text(encoding="utf-8"),
        ("user www-data;", "user root; daemon off;" if os.getuid() == 0 else "daemon off;"),
        ("worker_processes auto", "worker_processes 2"),
        ("worker_rlimit_nofile 131072;", ""),
        ("worker_connections 65536", "worker_connections 512"),
        ("/run/nginx.pid", f"{directory}/nginx.pid"),
        ("/var/log/nginx/error.log", "stderr"),
        ("/var/log/nginx/access.log", f"{directory}/access.log"),
        ("http {", f"http {{ {places}"),
        ("listen 443", f"listen 127.0.0.1:{port}"),
        ("/etc/ssl/hub.example.org.pem", f"{certificate}"),
        ("/etc/ssl/private/hub.example.org.key", f"{certificate}"),
    )
    return text, ["nginx", "-e", "stderr", "-p", f"{directory}", "-c"]


def configure_haproxy(directory: Path, port: int, certificate: Path) -> tuple[str, list[str]]:
    text = put(
        (FOLDER / "haproxy.cfg").read_text(encoding="utf-8"),
        ("/dev/log local0", "stderr format raw local0"),
        ("maxconn 60000", "maxconn 200"),
        ("bind :443", f"bind 127.0.0.1:{port}"),
        ("/etc/haproxy/hub.example.org.pem", f"{certificate}"),
    )
    return text, ["haproxy", "-db", "-f"]


def configure_caddy(directory: Path, port: int, certificate: Path) -> tuple[str, list[str]]:
    # Both nodes are in one line of the Caddyfile, and Caddy must not obtain a certificate.
    pem = certificate.read_text()
    for name, kind in (("key", "PRIVATE KEY"), ("cert", "CERTIFICATE")):
        found = re.search(f"-----BEGIN {kind}-----.*-----END {kind}-----\n", pem, re.DOTALL)
        assert found is not None
        (directory / f"{name}.pem").write_text(found[0])
    text = put(
        (FOLDER / "Caddyfile").read_text(encoding="utf-8"),
        ("\tgrace_period", "\tadmin off\n\tauto_https disable_redirects\n\tgrace_period"),
        (
            "hub.example.org {",
            f"https://127.0.0.1:{port} {{\n\ttls {directory}/cert.pem {directory}/key.pem\n",
        ),
    )
    return text, ["caddy", "run", "--adapter", "caddyfile", "--config"]


KINDS = {"nginx": configure_nginx, "haproxy": configure_haproxy, "caddy": configure_caddy}


class Front:
    """
    A running proxy.

    :ivar url: the URL of the hub at the proxy.
    """

    def __init__(self, port: int, certificate: Path) -> None:
        self.origin = f"https://127.0.0.1:{port}"
        self.url = self.origin + PATH
        self._context = ssl.create_default_context(cafile=certificate)

    def client(self, *, http2: bool = True) -> httpx.Client:
        """
        Make an HTTP client with its own connections.
        """
        return httpx.Client(http2=http2, verify=self._context, timeout=PATIENCE)

    def publish(self, text: str, id: str | None = None, **fields: str) -> httpx.Response:
        """
        Publish over a new connection.
        """
        form = {"topic": "news", "data": text, **({} if id is None else {"id": id}), **fields}
        with self.client() as client:
            return client.post(self.url, data=form, headers={"Authorization": f"Bearer {token()}"})


def program(name: str) -> str:
    """
    Return the path of a program, or skip the test if it is not installed.
    """
    # Debian installs some programs in directories that are only in root's path.
    found = shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin")
    if found is None:
        pytest.skip(f"install Debian's package {name}")
    return found


@contextmanager
def proxy(
    kind: str, directory: Path, certificate: Path, urls: tuple[str, ...], status: int, timeout: str = "60s"
) -> Iterator[Front]:
    """
    Run a proxy for nodes.

    :param urls: the hub's URL at each of one or two nodes.
    :param status: the port of their health checks.
    :param timeout: the proxy's read timeout, after which a silent node counts as failed.
    """
    port = free_port()
    text, command = KINDS[kind](directory, port, certificate)
    nodes = [re.sub("http://([^/]+)/.*", r"\1", url) for url in urls]
    text = put(text, (ONE, nodes[0]), *([(TWO, nodes[1])] if len(nodes) > 1 else []))
    if len(nodes) == 1:
        # As the files say: remove the second node.
        text = re.sub(rf"(?m)^ +server .*{TWO}.*\n| {TWO}", "", text)
    if kind != "nginx":
        text = put(text, (f"port {STATUS}", f"port {status}"))
    if timeout != "60s":
        text, count = re.subn(r"(read_timeout|timeout server|timeout client) 60s", rf"\1 {timeout}", text)
        assert count
    assert "10.0.0" not in text
    configuration = directory / f"{kind}.conf"
    configuration.write_text(text)
    command[0] = program(kind)
    # Caddy stores its state below these.
    env = {"HOME": f"{directory}", "XDG_DATA_HOME": f"{directory}"}
    with start([*command, configuration], env=env, needs="proxy") as running_proxy:

        def listens() -> bool:
            assert running_proxy.process.poll() is None, running_proxy.output
            return _listens(port)

        wait_until(listens, what=lambda: f"{kind} listens: {running_proxy.output}")
        try:
            yield Front(port, certificate)
        finally:
            # At this signal, and not at SIGKILL, nginx ends its workers too.
            running_proxy.process.terminate()
            with suppress(subprocess.TimeoutExpired):
                running_proxy.process.wait(5)


def _listens(port: int) -> bool:
    with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=PATIENCE):
        return True
    return False


@contextmanager
def node(status: int, *argv: str, host: str = HOSTS[0]) -> Iterator[Process]:
    """
    Run a node.
    """
    listen = [f"--listen=tcp:0:interface={host}", f"--admin=tcp:{status}:interface={host}"]
    with running(*listen, f"--url={HUB_URL}", *argv, listens=2) as process:
        assert get(process.urls[0])[0] in (200, 503)
        yield process


def channels(node: Process) -> float:
    """
    Return how many streams a node has.
    """
    _, text = get(node.urls[0].replace("/health/ready", "/metrics"))
    found = re.search(r"^txsse_channels (\S+)$", text, re.MULTILINE)
    assert found is not None, text
    return float(found[1])
