"""
Tests of the service that is made from a configuration.
"""

from __future__ import annotations

import errno
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.defer import Deferred, fail
from twisted.internet.error import CannotListenError
from twisted.internet.testing import MemoryReactorClock
from twisted.logger import capturedLogs
from twisted.web.server import Request, Site

from tests.fakes import Client, Wire
from tests.hub.fakes import ScriptedJournal
from tests.mercure.signers import ec_key, public_pem
from tests.mercure.world import SECRET, URL, old_token, token
from tests.web.listening_fakes import FakeEndpoint, FakePort
from txsse import Hub, HubService, JournalFailed
from txsse.service import build as hub_module
from txsse.service.build import default_url, make_hub
from txsse.service.check import describe_config
from txsse.service.config import BadConfig, Config
from txsse.service.issuers import describe_keys, make_issuers
from txsse.service.service import HTTPService
from txsse.service.status import Health, status_tree
from txsse.service.tree import HubTree, make_settings
from txsse.tap import Options, makeService
from txsse.web import BoundedSite, listening

KEYED: dict[str, Any] = {"url": URL, "key": SECRET}


class Tree:
    """
    The web tree of the service on a fake network.
    """

    def __init__(self, wire: Wire, **given: Any) -> None:
        config = Config(**{**KEYED, **given})
        settings = make_settings(config, make_issuers(config, wire.reactor), config.url or URL)
        self.tree = HubTree(config, settings, wire.reactor)
        self._wire = wire
        self._clients: list[Client] = []

    def ask(self, path: str, method: str = "GET", body: bytes = b"", **headers: str) -> Client:
        site = Site(self.tree, requestFactory=Request, reactor=self._wire.reactor, timeout=None)
        site.log = lambda request: None  # type: ignore[method-assign]
        client = Client(self._wire, site)
        self._clients.append(client)
        fields = {"Host": "hub.example", "Content-Length": str(len(body)), **headers}
        head = [f"{method} {path} HTTP/1.1", *(f"{name}: {value}" for name, value in fields.items())]
        client.say("\r\n".join([*head, "", ""]).encode() + body)
        return client

    def end(self) -> None:
        for client in self._clients:
            if client.transport.connected:
                client.disconnect(clean=False)


@pytest.fixture
def serve(plain: Wire) -> Iterator[Callable[..., Tree]]:
    trees: list[Tree] = []

    def serve(**given: Any) -> Tree:
        trees.append(Tree(plain, **given))
        return trees[-1]

    yield serve
    for tree in trees:
        tree.end()


class IssuerTests:
    def test_keys_by_role(self, serve: Callable[..., Tree], tmp_path: Path) -> None:
        """
        Each key verifies only tokens of the role that it was given for.
        """
        file = tmp_path / "key"
        file.write_text(SECRET + "\n")
        form = {"Content-Type": "application/x-www-form-urlencoded"}
        bearer = f"Bearer {token(publish=['*'], subscribe=['*'])}"
        for given, statuses in (
            ({"key_file": (str(file),), "key": None}, (200, 200)),
            ({"publish_key_file": (str(file),), "key": None}, (200, 401)),
            ({"publish_key": SECRET, "subscribe_key": "x" * 32, "key": None}, (200, 401)),
            ({"publish_key": "x" * 32, "subscribe_key": SECRET, "key": None}, (401, 200)),
        ):
            tree = serve(**given)
            published = tree.ask("/.well-known/mercure", "POST", b"topic=a", Authorization=bearer, **form)
            read = tree.ask("/.well-known/mercure?match=a", Authorization=bearer)
            assert (published.status, read.status) == statuses

    def test_authorization_servers(self, plain: Wire) -> None:
        """
        Each authorization server has its own keys, next to the keys of --key-file.
        """
        names = ("https://a.example", "https://b.example")
        urls = ("https://a.example/keys", "http://localhost:8000/keys")
        issuers = make_issuers(Config(issuer=names, jwks=urls), plain.reactor)
        assert [issuer.name for issuer in issuers] == list(names)
        assert [repr(issuer.publish) for issuer in issuers] == [f"<RemoteKeys {url}>" for url in urls]
        both = make_issuers(Config(**KEYED, issuer=names[:1], jwks=urls[:1]), plain.reactor)
        assert [issuer.name for issuer in both] == [names[0], None]
        named = make_issuers(Config(**KEYED, key_issuer="a", issuer=names[:1], jwks=urls[:1]), plain.reactor)
        assert [(issuer.name, issuer.authorization_server) for issuer in named] == [
            (names[0], True),
            ("a", False),
        ]

    @pytest.mark.parametrize(
        ("given", "said"),
        [
            ({"key": None}, "no client could publish"),
            ({"key": None, "subscribe_key": SECRET}, "no client could publish"),
            ({"key": "short"}, "at least 32 bytes"),
            ({"key_file": ("/nowhere/key",)}, "cannot read /nowhere/key"),
            ({"issuer": ("https://a.example",)}, "--issuer and --jwks go together"),
            ({"issuer": ("a",), "jwks": ("http://a.example/keys",)}, "--jwks: keys are fetched over https"),
            ({"algorithm": ("HS256", "none")}, "none is not supported"),
            ({"key_issuer": ""}, "--key-issuer: it is empty"),
            (
                {"key_issuer": "a", "issuer": ("a",), "jwks": ("https://a.example/keys",)},
                "--key-issuer: a is also an --issuer",
            ),
            (
                {"key_issuer": "b", "key": None, "issuer": ("a",), "jwks": ("https://a.example/keys",)},
                "--key-issuer: no key is given that it applies to",
            ),
            (
                {"algorithm": ("RS256", "ES256")},
                "--algorithm: it allows RS256, ES256, but the keys to publish",
            ),
            ({"algorithm": ("RS256",)}, "are for HS256/HS384/HS512"),
            ({"url": "hub.example"}, "--url: 'hub.example' is not the URL"),
            (
                {"url": "http://hub.example/a b"},
                "--url: 'http://hub.example/a b' contains characters that are invalid",
            ),
            ({"url": "https://hub.example/a\n"}, "contains characters that are invalid in a URL"),
            ({"url": "https://bücher.example/hub"}, "as xn--"),
            ({"url": "https://hub.example:p/hub"}, "--url: its host or port is invalid"),
            ({"url": "https://[hub.example/hub"}, "--url: its host or port is invalid"),
            ({"url": "https://hub.example/a%20b"}, "choose a path without %"),
            ({"url": "https://hub.example/a/../hub"}, "choose a path without %"),
            (
                {"url": f"https://me:{SECRET}@hub.example/hub"},
                "--url: it contains a user name or a password; leave",
            ),
            (
                {"issuer": ("a",), "jwks": (f"https://me:{SECRET.replace(' ', '')}@a.example/keys",)},
                "--jwks: it contains a user name or a password; leave",
            ),
            (
                {"issuer": ("a",), "jwks": ("https://a.example/the keys",)},
                "--jwks: 'https://a.example/the k",
            ),
            (
                {"issuer": ("a",), "jwks": (f"https://a.example/keys?token=a {SECRET}",)},
                "--jwks: 'https://a.example/keys?***' contains",
            ),
            (
                {"issuer": ("a",), "jwks": (f"http://a.example/keys?token={SECRET.replace(' ', '')}",)},
                "not from http://a.example/keys?token=***",
            ),
            ({"url": "https://hub.example"}, "the URL of a hub needs one"),
            ({"journal": "x:"}, "--journal: 'x:' is not a journal"),
            (
                {"journal": f"reddis://admin:{SECRET}@h/0"},
                "--journal: 'reddis://admin:***@h/0' is not a journal",
            ),
            ({"slow_policy": "wait"}, "--slow-policy must be one of close, drop, latest, replay, not 'wait'"),
            ({"origin": ("app.example",)}, "app.example"),
            ({"key_claim": "exp"}, "--key-claim: 'exp' is not the name of a claim"),
            ({"key_claim": "x" * 101}, "an example is sid"),
        ],
    )
    def test_invalid(self, serve: Callable[..., Tree], given: dict[str, Any], said: str) -> None:
        """
        An invalid configuration of keys or URLs is reported in one sentence, without secrets.
        """
        with pytest.raises(BadConfig) as raised:
            serve(**given)
        assert said in str(raised.value)
        assert SECRET not in str(raised.value) and SECRET.replace(" ", "") not in str(raised.value)

    def test_algorithm_of_one_key(self, serve: Callable[..., Tree], tmp_path: Path) -> None:
        """
        If a role has keys, one that suits an allowed algorithm is enough.
        """
        serve(algorithm=("RS256", "HS512"))
        file = tmp_path / "public.pem"
        file.write_bytes(public_pem(ec_key()))
        serve(algorithm=("ES256",), key_file=(str(file),))
        with pytest.raises(BadConfig, match="the keys to subscribe are for ES256; allow"):
            serve(algorithm=("HS256",), key=None, publish_key=SECRET, subscribe_key_file=(str(file),))


class TreeTests:
    def test_hub_at_another_path(self, serve: Callable[..., Tree]) -> None:
        """
        The hub may be at any path, and its metadata is at the well-known path for it.
        """
        tree = serve(url="https://hub.example/live/events", anonymous=True, debugger=True)
        assert tree.ask("/live/events?match=a").status == 200
        assert tree.ask("/.well-known/mercure?match=a").status == 404
        described = tree.ask("/.well-known/oauth-protected-resource/live/events")
        assert json.loads(described.body)["resource"] == "https://hub.example/live/events"
        assert tree.ask("/").status in (200, 403)

    def test_options_reach_the_hub(self, serve: Callable[..., Tree]) -> None:
        """
        The options of the service reach the hub: limits, anonymous subscribers and compatibility.
        """
        tree = serve(anonymous=True, max_streams=1, max_matchers=2, max_body=100, compatibility=True)
        assert tree.ask("/.well-known/mercure?match=a&match=b&match=c").status == 400
        old = tree.ask("/.well-known/mercure?topic=a", Authorization=f"Bearer {old_token(subscribe=['a'])}")
        assert old.status == 200
        assert tree.ask("/.well-known/mercure?match=a").status == 503
        headers = {"Content-Type": "application/x-www-form-urlencoded"}
        large = tree.ask(
            "/.well-known/mercure",
            "POST",
            b"topic=a&data=" + b"x" * 100,
            Authorization=f"Bearer {token(publish=['a'])}",
            **headers,
        )
        assert large.status == 413
        assert tree.ask("/").status == 404


class StartTests:
    def test_journal_is_retried(
        self, serve: Callable[..., Tree], plain: Wire, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """
        The service retries a journal that does not start, and is ready when the journal has started.
        """
        tree = serve().tree
        answers: list[Any] = [fail(JournalFailed("x", "is unavailable")) for _ in range(3)]
        real = tree.hub.start
        monkeypatch.setattr(tree.hub, "start", lambda: answers.pop() if answers else real())
        service = _service(tree, plain)
        service.startService()
        for _ in range(3):
            assert tree.health.problem == "the journal has not started yet"
            plain.reactor.advance(10)
        assert tree.health.problem is None
        assert answers == []
        service.stopService()
        plain.reactor.run_soon()

    def test_journal_that_fails(self, plain: Wire) -> None:
        """
        A problem of the journal makes the service not ready.
        """
        journal = ScriptedJournal(reactor=plain.reactor)
        journal.problem = JournalFailed("x", "is unavailable")
        hub = Hub(journal=journal, reactor=plain.reactor)
        hub.publish("a", "b")
        health = Health(hub)
        health.started = True
        assert health.problem == "x: is unavailable"

    def test_stopped_while_starting(
        self, memory: MemoryReactorClock, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """
        A service that is stopped while its journal starts does not continue to start, with and without
        --admin.
        """
        monkeypatch.setenv("TXSSE_KEY", SECRET)
        monkeypatch.setattr(Hub, "start", lambda self: fail(JournalFailed("x", "is unavailable")))
        service = make("--listen=tcp:1")
        service.privilegedStartService()
        service.startService()
        assert memory.getDelayedCalls() != []
        stopped = service.stopService()
        for _ in range(5):
            memory.advance(0)
        assert stopped.called
        assert memory.getDelayedCalls() == []


class StatusTests:
    def test_ready(self, serve: Callable[..., Tree], plain: Wire) -> None:
        """
        /health/ready is 200 only between the start and the stop of the service.
        """
        tree = serve().tree
        health: Health = tree.health
        service = _service(tree, plain)
        client = Client(plain, _site(status_tree(tree.hub, health), plain))
        for happens, status, said in (
            (lambda: None, 503, "the journal has not started yet"),
            (service.startService, 200, "ok"),
            (service.stopService, 503, "the service is stopping"),
        ):
            happens()
            client.reset_response()
            client.request("/health/ready")
            assert (client.status, client.body.decode()) == (status, f"{said}\n")
        client.reset_response()
        client.request("/health/live")
        assert client.status == 200

    def test_damaged(self, serve: Callable[..., Tree], plain: Wire, monkeypatch: pytest.MonkeyPatch) -> None:
        """
        A hub whose journal has damaged updates is ready, and reports their number.
        """
        tree = serve().tree
        client = Client(plain, _site(status_tree(tree.hub, tree.health), plain))
        monkeypatch.setattr(Hub, "damaged", 3)
        tree.health.started = True
        client.request("/health/ready")
        assert client.status == 200
        assert client.body.startswith(b"degraded: 3 damaged updates of the journal were skipped; ")
        assert b"check the disk" in client.body
        monkeypatch.setattr(Hub, "problem", OSError("no journal"))
        client.reset_response()
        client.request("/health/ready")
        assert (client.status, client.body) == (503, b"no journal\n")

    def test_metrics_without_the_package(
        self, serve: Callable[..., Tree], plain: Wire, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """
        Without the package prometheus_client, /metrics answers with 503 and the package to install.
        """
        import sys

        monkeypatch.delitem(sys.modules, "txsse.hub.prometheus", raising=False)
        monkeypatch.setitem(sys.modules, "prometheus_client", None)
        tree = serve().tree
        client = Client(plain, _site(status_tree(tree.hub, tree.health), plain)).request("/metrics")
        assert client.status == 503
        assert b"pip install 'txsse[metrics]'" in client.body


def _service(tree: HubTree, wire: Wire) -> HTTPService:
    """
    Return the service of a tree, which listens on a fake endpoint.
    """
    site = BoundedSite(tree, reactor=wire.reactor)
    port = FakePort()
    port.stopped.callback(None)
    return HTTPService(HubService(tree.hub, site, FakeEndpoint(port)), health=tree.health)


def _site(root: Any, wire: Wire) -> Site:
    site = Site(root, reactor=wire.reactor, timeout=None)
    site.log = lambda request: None  # type: ignore[method-assign]
    return site


class UrlTests:
    @pytest.mark.parametrize(
        ("endpoints", "url"),
        [
            (["tcp:8080:interface=127.0.0.1"], "http://127.0.0.1:8080"),
            (["tcp:80"], "http://localhost:80"),
            (["tcp:port=80:interface=0.0.0.0"], "http://localhost:80"),
            (["tcp6:81:interface=\\:\\:"], "http://localhost:81"),
            (["tcp6:81:interface=\\:\\:1"], "http://[::1]:81"),
            (["ssl:443:privateKey=x.pem"], "https://localhost:443"),
            (["systemd:domain=INET:index=0", "tcp:80"], "http://localhost:80"),
        ],
    )
    def test_derived_url(self, endpoints: list[str], url: str) -> None:
        """
        Without --url, the hub's URL is derived from its first endpoint.
        """
        assert default_url(endpoints) == url + "/.well-known/mercure"

    @pytest.mark.parametrize("endpoints", [["tcp:0"], ["unix:/run/x"], ["systemd:domain=INET:index=0"]])
    def test_url_cannot_be_derived(self, endpoints: list[str]) -> None:
        """
        If the URL cannot be derived from the endpoints, --url is required.
        """
        with pytest.raises(BadConfig, match="--url: it is missing; give the URL"):
            default_url(endpoints)


class ReportTests:
    def test_no_secrets(self) -> None:
        """
        --check prints all options but hides secrets.
        """
        config = Config(**KEYED, subscribe_key="y" * 40, anonymous=True, keepalive=None)
        text = describe_config(config, dict.fromkeys(_names(), "default"))
        assert SECRET not in text and "y" * 40 not in text
        lines = [line.split() for line in text.splitlines()]
        assert ["anonymous", "yes", "default"] in lines
        assert ["keepalive", "-", "default"] in lines
        assert ["key", "(secret)", "default"] in lines

    @pytest.mark.parametrize(
        ("url", "shown"),
        [
            ("redis://admin:S3cretPass@localhost:6379/0", "redis://admin:***@localhost:6379/0"),
            ("redis+sentinel://:S3cretPass@a,b:26379/main", "redis+sentinel://:***@a,b:26379/main"),
            ("unix://u:S3cretPass@/run/redis.sock?db=0", "unix://u:***@/run/redis.sock?db=0"),
            # Not part of a URL's user info, but secret all the same.
            ("redis://admin:S3cretPass/1?x=@2@localhost", "redis://admin:***@localhost"),
            ("redis://admin:my S3cretPass@localhost", "redis://admin:***@localhost"),
            ("redis://admin:S3cretPass,2@localhost", "redis://admin:***@localhost"),
            ("redis://localhost:6379/0", "redis://localhost:6379/0"),
            ("sqlite:/var/lib/a@b:c", "sqlite:/var/lib/a@b:c"),
            ("https://a.example/keys?token=S3cretPass", "https://a.example/keys?token=***"),
        ],
    )
    def test_no_passwords(self, url: str, shown: str) -> None:
        """
        --check hides passwords and queries of URLs, for every option.
        """
        config = Config(**KEYED, journal=url, audience=("x", url))
        text = describe_config(config, dict.fromkeys(_names(), "default"))
        assert "S3cretPass" not in text
        assert f"  {shown} " in text and f"  x {shown} " in text

    def test_control_characters(self) -> None:
        """
        --check escapes control characters.
        """
        config = Config(**KEYED, cookie="a\x1b[2Jb", audience=("x\u202e",))
        text = describe_config(config, dict.fromkeys(_names(), "default"))
        assert "a\\u001b[2Jb" in text and "x\\u202e" in text
        assert text.replace("\n", "").isprintable()

    def test_keys(self, tmp_path: Path) -> None:
        """
        --check prints the algorithms and the IDs of the keys.
        """
        file = tmp_path / "keys.json"
        file.write_text(json.dumps({"keys": [{"kty": "oct", "kid": "k1", "k": "a" * 43}]}))
        assert list(describe_keys(Config(publish_key=SECRET, publish_key_file=(str(file),)))) == [
            "keys to publish: HS256/HS384/HS512 (k1), HS256/HS384/HS512",
            "keys to subscribe: none",
        ]


def _names() -> list[str]:
    from txsse.service.config import options

    return [option.name for option in options()]


@pytest.fixture
def memory(monkeypatch: pytest.MonkeyPatch) -> MemoryReactorClock:
    from txsse import tap

    for name in [name for name in __import__("os").environ if name.startswith("TXSSE_")]:
        monkeypatch.delenv(name)
    reactor = MemoryReactorClock()
    monkeypatch.setattr(tap, "global_reactor", lambda: reactor)
    return reactor


def make(*argv: str) -> Any:
    options = Options()
    options.parseOptions(argv)
    return makeService(options)


class ServiceTests:
    @pytest.mark.parametrize("argv", [(), ("--demo",)])
    def test_no_endpoints(
        self,
        memory: MemoryReactorClock,
        monkeypatch: pytest.MonkeyPatch,
        argv: tuple[str, ...],
        tmp_path: Path,
    ) -> None:
        """
        A service without an endpoint is refused.
        """
        file = tmp_path / "hub.toml"
        file.write_text("listen = []")
        monkeypatch.setenv("TXSSE_KEY", SECRET)
        monkeypatch.setenv("TXSSE_URL", URL)
        for given in (("TXSSE_LISTEN", " "), ("TXSSE_CONFIG", str(file))):
            with monkeypatch.context() as patch, pytest.raises(SystemExit) as exit:
                patch.setenv(*given)
                make(*argv)
            assert "--listen: no endpoint is given; give one, such as tcp:8080" in str(exit.value.code)

    def test_empty_variable(self, memory: MemoryReactorClock, monkeypatch: pytest.MonkeyPatch) -> None:
        """
        An empty variable counts as unset.
        """
        monkeypatch.setenv("TXSSE_KEY", SECRET)
        monkeypatch.setenv("TXSSE_URL", URL)
        monkeypatch.setenv("TXSSE_LISTEN", "")
        make().privilegedStartService()
        assert [server[0] for server in memory.tcpServers] == [8080]

    def test_listens(self, memory: MemoryReactorClock, monkeypatch: pytest.MonkeyPatch) -> None:
        """
        The hub and the health checks listen on their own endpoints, and both stop with the service.
        """
        monkeypatch.setenv("TXSSE_KEY", SECRET)
        service = make("--listen=tcp:1", "--admin=tcp:2")
        with capturedLogs() as logs:
            service.privilegedStartService()
            service.startService()
        assert sorted(server[0] for server in memory.tcpServers) == [1, 2]
        assert {log["url"] for log in logs if "url" in log} == {
            "http://127.0.0.1:1/.well-known/mercure",
            "http://127.0.0.1:2/health/ready",
        }
        stopped = service.stopService()
        for _ in range(5):
            memory.advance(0)
        assert stopped.called

    @pytest.mark.parametrize("refused", ["tcp:1", "tcp:2"])
    @pytest.mark.parametrize("method", ["privilegedStartService", "startService"])
    def test_cannot_listen(
        self, memory: MemoryReactorClock, monkeypatch: pytest.MonkeyPatch, refused: str, method: str
    ) -> None:
        """
        If an endpoint of the hub or of the health checks cannot listen, the process exits with one line, and
        no other endpoint listens.
        """
        in_use = CannotListenError("", 80, OSError(errno.EADDRINUSE, "in use"))
        ports: dict[str, FakePort] = {}

        def parse(reactor: object, description: str) -> FakeEndpoint:
            if description == refused:
                return FakeEndpoint(Deferred())
            return FakeEndpoint(ports.setdefault(description, FakePort()))

        monkeypatch.setattr(listening, "serverFromString", parse)
        monkeypatch.setattr(
            FakeEndpoint, "listen", lambda self, _: self.listening if self.listening.called else fail(in_use)
        )
        monkeypatch.setenv("TXSSE_KEY", SECRET)
        service = make("--listen=tcp:1", "--admin=tcp:2")
        with pytest.raises(SystemExit) as exit:
            getattr(service, method)()
        assert exit.value.code == (
            f"twist txsse: cannot listen on {refused!r}: it is in use; stop the process that listens there, "
            "or choose another endpoint"
        )
        assert not service.running
        assert refused == "tcp:2" or ports["tcp:2"].stopping

    def test_access_log(self, memory: MemoryReactorClock, tmp_path: Path) -> None:
        """
        An access log that cannot be written is reported at start.
        """
        config = Config(**KEYED, access_log=str(tmp_path))
        with pytest.raises(BadConfig, match="--access-log: cannot write"):
            make_hub(config, memory)
        make_hub(Config(**KEYED, access_log=str(tmp_path / "log")), memory)
        make_hub(Config(**KEYED, access_log="-"), memory)
        assert (tmp_path / "log").exists()

    @pytest.mark.parametrize("endpoint", ["8080", "tcp:x", "nonsense:1"])
    def test_invalid_endpoint(
        self, memory: MemoryReactorClock, monkeypatch: pytest.MonkeyPatch, endpoint: str
    ) -> None:
        """
        An invalid endpoint is reported as such, and not as a missing --url.
        """
        monkeypatch.setenv("TXSSE_KEY", SECRET)
        with pytest.raises(SystemExit) as exit:
            make(f"--listen={endpoint}")
        assert f"cannot listen on {endpoint!r}" in str(exit.value.code)
        assert "write it like tcp:8080" in str(exit.value.code) and "--url" not in str(exit.value.code)

    def test_packages_missing(self, memory: MemoryReactorClock, monkeypatch: pytest.MonkeyPatch) -> None:
        """
        Without the packages for a hub, one line says what to install; the demo needs no packages.
        """
        import sys

        monkeypatch.setenv("TXSSE_KEY", SECRET)
        for name in [name for name in sys.modules if name.startswith("txsse.mercure")]:
            monkeypatch.delitem(sys.modules, name)
        monkeypatch.delitem(sys.modules, hub_module.__name__)
        monkeypatch.setitem(sys.modules, "jwt", None)
        with pytest.raises(SystemExit) as exit:
            make("--listen=tcp:1")
        assert "pip install 'txsse[mercure]'" in str(exit.value.code)
        with capturedLogs() as logs:
            make("--demo", "--listen=tcp:1").startService()
        assert any("pip install 'txsse[mercure]'" in str(log.get("problem")) for log in logs)

    def test_options_that_the_demo_does_not_use(
        self, memory: MemoryReactorClock, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """
        An option on the command line that the demo does not use is refused; in the environment it is ignored.
        """
        with pytest.raises(SystemExit) as exit:
            make("--demo", "--anonymous")
        assert "--anonymous: the demo accepts only --listen and --journal" in str(exit.value.code)
        monkeypatch.setenv("TXSSE_KEY", SECRET)
        make("--demo", "--listen=tcp:1", "--journal=memory:")

    def test_check_of_the_demo(
        self, memory: MemoryReactorClock, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """
        --check of the demo lists its options, and the options that it ignores.
        """
        file = tmp_path / "hub.toml"
        file.write_text(f'listen = ["tcp:1"]\nkey = "{SECRET}"\nanonymous = true\nurl = "{URL}"\n')
        with pytest.raises(SystemExit) as exit:
            make("--demo", "--check", f"--config={file}")
        assert exit.value.code == 0
        out = capsys.readouterr().out
        assert out.splitlines() == [
            f"listen   tcp:1    {file}: listen",
            "journal  memory:  default",
            "",
            f"the demo ignores {file}: url",
            f"the demo ignores {file}: key",
            f"the demo ignores {file}: anonymous",
            "Configuration is valid.",
        ]

    def test_check_of_the_demo_without_packages(
        self, memory: MemoryReactorClock, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """
        --check of the demo needs no packages for a hub.
        """
        import sys

        monkeypatch.setitem(sys.modules, "txsse.service.issuers", None)
        with pytest.raises(SystemExit) as exit:
            make("--demo", "--check")
        assert exit.value.code == 0

    def test_demo(self, memory: MemoryReactorClock) -> None:
        """
        The demo has a hub, and logs commands to subscribe and to publish.
        """
        with capturedLogs() as logs:
            make("--demo", "--listen=tcp:8080").startService()
        (log,) = [log for log in logs if "token" in log]
        assert log["url"] == "http://127.0.0.1:8080/.well-known/mercure"
        assert log["token"].count(".") == 2
        text = log["log_format"].format(**log)
        assert "curl -N 'http://127.0.0.1:8080/.well-known/mercure?match=demo'" in text
