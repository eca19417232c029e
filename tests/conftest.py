"""
Fixtures and pytest hooks for all tests.
"""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Generator, Iterable, Iterator
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Any, cast

import pytest
from twisted.logger import ILogObserver, LogEvent, globalLogPublisher

from tests.fakes import WIRES, Wire
from tests.journal.redis_server import RedisServer, running
from tests.needs import FAST, MARKS, mark_by_fixtures, needs, set_running
from txsse._extras import extra_of


def to_install(error: BaseException | None) -> str | None:
    """
    Return the package to install if an error was caused by a missing optional package, or ``None``.
    """
    while error is not None:
        package = (getattr(error, "name", None) or "").partition(".")[0]
        own = package in ("", "tests", "txsse", "twisted", *sys.stdlib_module_names)
        if isinstance(error, ImportError) and not own:
            return f"needs {package}: pip install 'txsse[{extra_of(error) or 'test'}]'"
        error = error.__cause__ or error.__context__
    return None


class _Module(pytest.Module):
    # Skips a test file that cannot be imported without an extra.
    def collect(self) -> Iterable[Any]:
        try:
            return super().collect()
        except self.CollectError as error:
            reason = to_install(error)
            if reason is None:
                raise
            pytest.skip(reason, allow_module_level=True)


def pytest_pycollect_makemodule(module_path: Path, parent: Any) -> pytest.Module:
    """
    Collect the tests of a file, and skip the file if it needs an extra that is not installed.
    """
    return cast(pytest.Module, _Module.from_parent(parent, path=module_path))


def pytest_addoption(parser: pytest.Parser) -> None:
    """
    Add the option ``--fast``, which selects the tests without marks.
    """
    parser.addoption("--fast", action="store_true", help=f"run the tests without marks: -m '{FAST}'")


def pytest_configure(config: pytest.Config) -> None:
    """
    Declare the marks, and select the tests without marks if ``--fast`` is given.
    """
    for mark, meaning in MARKS.items():
        config.addinivalue_line("markers", f"{mark}: {meaning}")
    if config.option.fast:
        config.option.markexpr = FAST


# First, since the options -m and -k select by the marks.
@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """
    Mark tests by the fixtures that they use, and do not measure coverage while inputs are generated.

    Other tests cover every branch; the measurement would double the time of these.
    """
    for item in items:
        mark_by_fixtures(item)
        if item.get_closest_marker("fuzz") is not None:
            item.add_marker("no_cover")


def pytest_collection() -> None:
    """
    Collect without garbage collection, which would take a quarter of the time and find little.
    """
    gc.disable()


def pytest_collection_finish() -> None:
    """
    Exempt the collected tests from garbage collection: there are so many that ``gc.collect()``, which tests
    of leaks and of unhandled failures call, would take a second.
    """
    gc.collect()
    gc.freeze()
    gc.enable()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """
    Note which test runs, so that :func:`tests.needs.require` can check its marks.
    """
    set_running(item)
    try:
        return (yield)
    finally:
        set_running(None)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_setup(item: pytest.Item) -> Generator[None, Any, Any]:
    """
    Skip a test whose fixtures need an extra that is not installed.
    """
    return (yield from _skipping())


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, Any, Any]:
    """
    Skip a test that needs an extra that is not installed.
    """
    return (yield from _skipping())


def _skipping() -> Generator[None, Any, Any]:
    try:
        return (yield)
    except ImportError as error:
        reason = to_install(error)
        if reason is None:
            raise
        pytest.skip(reason)


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """
    Write a key and its self-signed certificate for 127.0.0.1 to a file, and return its path. Skips the test
    if TLS or HTTP/2 is not installed.
    """
    pytest.importorskip("OpenSSL", reason="pip install 'txsse[tls]'")
    pytest.importorskip("h2", reason="pip install 'txsse[http2]'")
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "127.0.0.1")])
    names = [x509.DNSName("localhost"), x509.IPAddress(ip_address("127.0.0.1"))]
    now, day = datetime.now(UTC), timedelta(days=1)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - day)
        .not_valid_after(now + day)
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .sign(key, hashes.SHA256())
    )
    path = tmp_path_factory.mktemp("tls") / "server.pem"
    path.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        + made.public_bytes(serialization.Encoding.PEM)
    )
    return path


@pytest.fixture(scope="session")
@needs("redis")
def shared_redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """
    One Redis for all tests that use their own keys and do not stop or reconfigure it.
    """
    with running(tmp_path_factory.mktemp("redis"), appendonly="no") as server:
        yield server


@pytest.fixture(params=WIRES)
def wire(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Wire]:
    """
    Each kind of :class:`Wire` in turn; the test fails if it leaves a delayed call in the reactor.
    """
    wire = Wire(request.param, monkeypatch)
    yield wire
    wire.reactor.run_soon()
    assert wire.reactor.getDelayedCalls() == []


@pytest.fixture
def plain(monkeypatch: pytest.MonkeyPatch) -> Iterator[Wire]:
    """
    HTTP/1.1 over plain TCP, for tests that do not depend on the kind of wire.
    """
    wire = Wire("direct", monkeypatch)
    yield wire
    wire.reactor.run_soon()
    assert wire.reactor.getDelayedCalls() == []


def pytest_sessionfinish(session: pytest.Session) -> None:
    """
    Fail the run if tests were skipped although the variable CI is ``true``, which says that everything is
    installed.
    """
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if os.environ.get("CI") == "true" and reporter is not None and reporter.stats.get("skipped"):
        reporter.write_line("Tests were skipped, and CI is true: that counts as a failure.", red=True)
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


@pytest.fixture
def logged() -> Iterator[list[LogEvent]]:
    """
    Collect the events that are logged during the test.
    """
    events: list[LogEvent] = []
    observer = cast(ILogObserver, events.append)
    globalLogPublisher.addObserver(observer)
    yield events
    globalLogPublisher.removeObserver(observer)


@pytest.fixture
def failures() -> Iterator[list[LogEvent]]:
    """
    Collect the events with a failure that are logged during the test.
    """
    events: list[LogEvent] = []

    def observe(event: LogEvent) -> None:
        if "log_failure" in event:
            events.append(event)

    observer = cast(ILogObserver, observe)
    globalLogPublisher.addObserver(observer)
    yield events
    globalLogPublisher.removeObserver(observer)
