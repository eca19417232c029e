"""
Headless Chromium for all browser tests, and the servers that they share.
"""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import pytest

from tests.browser.remote import Server
from tests.needs import needs
from tests.processes import serving

if TYPE_CHECKING:
    from selenium.webdriver import Chrome, ChromeService

_ARGUMENTS = [
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
    # The cache would keep pages that a test has left, and their streams.
    "--disable-features=BackForwardCache",
]


@pytest.fixture(scope="session")
@needs("browser", "process")
def browser() -> Iterator[Chrome]:
    """
    Run headless Chromium; skip the test if Chromium or Selenium is missing.
    """
    webdriver = pytest.importorskip("selenium.webdriver", reason="pip install selenium")
    chromium, chromedriver = shutil.which("chromium"), shutil.which("chromedriver")
    if chromium is None or chromedriver is None:
        pytest.skip("install Debian's packages chromium and chromium-driver")
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    options.accept_insecure_certs = True
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    for argument in _ARGUMENTS:
        options.add_argument(argument)
    # Not below pytest's directory: Chromium creates a socket there, whose path may have about 100 characters.
    with TemporaryDirectory(prefix="txsse-", ignore_cleanup_errors=True) as directory:
        options.add_argument(f"--user-data-dir={directory}/profile")
        environment = {**os.environ, "TMPDIR": directory}
        service = webdriver.ChromeService(
            executable_path=chromedriver, env=environment, popen_kw={"start_new_session": True}
        )
        try:
            driver = webdriver.Chrome(options=options, service=service)
            try:
                yield driver
            finally:
                driver.quit()
        finally:
            _end(service)


def _end(service: ChromeService) -> None:
    service.stop()
    process = getattr(service, "process", None)
    if process is not None:
        # If chromedriver has crashed, its Chromium still runs, in the same process group.
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)


@pytest.fixture
def tab(browser: Chrome) -> Iterator[Chrome]:
    """
    Return the browser without cookies, because those of 127.0.0.1 apply to all ports; show an empty page
    afterwards, which ends the test's streams. Over HTTP/1.1 a browser opens at most six connections to a
    server.
    """
    browser.execute_cdp_cmd("Network.clearBrowserCookies", {})
    yield browser
    browser.get("about:blank")


def _run_server(*argv: str) -> Iterator[Server]:
    with serving("-m", "tests.browser.server", *argv, says="Serving (.*)\n") as [origins]:
        yield Server(*origins.split())


@pytest.fixture(scope="session")
def plain_server(browser: Chrome) -> Iterator[Server]:
    """
    Run the controllable server over HTTP/1.1.
    """
    yield from _run_server()


@pytest.fixture(scope="session")
def tls_server(browser: Chrome, certificate: Path) -> Iterator[Server]:
    """
    Run the controllable server over TLS and HTTP/2.
    """
    yield from _run_server(str(certificate))


@pytest.fixture(scope="session", params=["HTTP/1.1", "HTTP/2"])
def any_server(request: pytest.FixtureRequest) -> Server:
    """
    Return the HTTP/1.1 server and the HTTP/2 server in turn.
    """
    server: Server = request.getfixturevalue("plain_server" if request.param == "HTTP/1.1" else "tls_server")
    return server
