"""
Optional packages: the errors of an environment without them, and each extra in an environment that has only
that one.
"""

from __future__ import annotations

import ast
import sys
import textwrap
from pathlib import Path

import pytest

from tests import needs as marks
from tests.bare import ROOT, Environment, read_setup
from txsse._extras import PACKAGES, MissingExtra, extra_of, missing, needs

SECRET = "0123456789abcdef0123456789abcdef"

# Imports all modules, and prints the error of each that cannot be imported.
IMPORT_ALL = """
import importlib, pathlib
for path in sorted(pathlib.Path("txsse").rglob("*.py")):
    name = ".".join(path.with_suffix("").parts).removesuffix(".__init__")
    if name != "txsse.__main__":
        try:
            importlib.import_module(name)
        except ImportError as error:
            print(name, error, sep=": ")
"""

SERVICE = """
import sys
from txsse.tap import Options, makeService
options = Options()
options.parseOptions(sys.argv[1:])
makeService(options)
"""

COMMAND = "import sys; from txsse.cli import main; sys.exit(main(sys.argv[1:]))"


@pytest.fixture(scope="module")
@marks.needs("process")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Environment:
    """
    Make an environment as ``pip install txsse`` does, without any extra.
    """
    return Environment(tmp_path_factory.mktemp("bare"))


class BareTests:
    def test_imports(self, bare: Environment) -> None:
        """
        Without extras, every module can be imported or raises an error that names the extra to install.
        """
        done = bare.run("-c", IMPORT_ALL)
        assert done.returncode == 0, done.stderr
        failed = dict(line.split(": ", 1) for line in done.stdout.splitlines())
        assert {
            "txsse.mercure",
            "txsse.journal.redis.journal",
            "txsse.hub.prometheus",
            "txsse.mercure.auth.mint",
        } <= set(failed)
        assert not {name for name in failed if name.startswith(("txsse.server", "txsse.client"))}
        for message in failed.values():
            assert " needs " in message and "pip install 'txsse[" in message

    @pytest.mark.parametrize(
        ("arguments", "extra"),
        [
            ([], "mercure"),
            (["--check"], "mercure"),
            (["--demo", "--journal", "redis://localhost"], "redis"),
            (["--demo", "--journal", "rediss://localhost"], "redis"),
            (["--demo", "--listen", "ssl:8443:privateKey=x.pem"], "tls"),
        ],
    )
    def test_service(self, bare: Environment, arguments: list[str], extra: str) -> None:
        """
        Without extras, the service exits with one line that names the extra to install.
        """
        done = bare.run("-c", SERVICE, *arguments)
        (line,) = done.stderr.splitlines()
        assert (done.returncode, done.stdout) == (1, "")
        assert line.startswith("twist txsse: ") and f"pip install 'txsse[{extra}]'" in line

    def test_demo(self, bare: Environment) -> None:
        """
        The demo needs no extra.
        """
        done = bare.run("-c", SERVICE, "--demo")
        assert (done.returncode, done.stderr) == (0, "")

    @pytest.mark.parametrize(
        ("arguments", "extra"),
        [
            (["tail", "https://127.0.0.1:1/"], "tls"),
            (["tail", "https://127.0.0.1:1/", "--insecure"], "tls"),
            (["publish", "https://127.0.0.1:1/", "topic", "data"], "tls"),
            (["publish", "https://127.0.0.1:1/", "topic", "data", "--insecure"], "tls"),
            (["publish", "http://127.0.0.1:1/", "topic", "data", "--key-file", "key"], "mercure"),
            (["token", "--subscribe", "a"], "mercure"),
            (["token", "--decode", "a.b.c"], "mercure"),
        ],
    )
    def test_commands(self, bare: Environment, arguments: list[str], extra: str) -> None:
        """
        Without extras, a command that needs one exits with one line that names it.
        """
        done = bare.run("-c", COMMAND, *arguments)
        (line,) = done.stderr.splitlines()
        assert done.returncode and not done.stdout
        assert line.startswith(f"txsse {arguments[0]}: ") and line.endswith(f"pip install 'txsse[{extra}]'")

    def test_metrics(self, bare: Environment) -> None:
        """
        Without extras, the module for Prometheus raises an error that names its extra.
        """
        done = bare.run("-c", "import txsse.hub.prometheus")
        assert done.stderr.splitlines()[-1].endswith(
            "exporting metrics needs prometheus-client: pip install 'txsse[metrics]'"
        )


@pytest.mark.process
class OneExtraTests:
    @pytest.mark.parametrize(
        ("extra", "program"),
        [
            ("tls", "import OpenSSL, service_identity"),
            ("http2", "import h2, priority, OpenSSL"),
            ("metrics", "import txsse.hub.prometheus"),
            ("mercure", "import txsse.mercure, txsse.mercure.auth.mint, txsse.cli.explain_token"),
            ("redis", "from txsse.journal.urls import journal_named; journal_named('rediss://localhost')"),
        ],
    )
    def test_only_this_extra(self, tmp_path: Path, extra: str, program: str) -> None:
        """
        Each extra alone is enough for the features that ask for it.
        """
        done = Environment(tmp_path, extra).run("-c", program)
        assert (done.returncode, done.stderr) == (0, "")

    @pytest.mark.parametrize(
        ("extra", "program"),
        [
            (
                "mercure",
                """
                from twisted.internet import reactor
                from txsse.mercure import RemoteKeys
                RemoteKeys("https://localhost/", reactor=reactor)
                """,
            ),
            (
                "mercure",
                f"""
                import sys
                sys.argv[1:] = ["--key-file", "x", "--issuer", "a", "--jwks", "https://localhost/"]
                {SERVICE.replace(chr(10), chr(10) + " " * 16)}
                """,
            ),
        ],
    )
    def test_without_tls(self, tmp_path: Path, extra: str, program: str) -> None:
        """
        A feature that needs TLS besides its own extra names the extra ``tls``.
        """
        done = Environment(tmp_path, extra).run("-c", textwrap.dedent(program))
        assert done.returncode
        assert done.stderr.splitlines()[-1].endswith("needs pyOpenSSL: pip install 'txsse[tls]'")


@pytest.mark.process
class SuiteTests:
    def test_skipped(self, tmp_path: Path) -> None:
        """
        Without extras, the test suite runs the tests that need none, and skips the others with the extra to
        install.
        """
        bare = Environment(tmp_path, also=["pytest", "pytest-timeout"])
        files = ["server/test_keepalive.py", "mercure/test_characters.py", "journal/redis/test_journal.py"]
        files += ["hub/test_prometheus.py", "client/test_source.py", "integration/test_streams.py"]
        done = bare.run(
            "-m", "pytest", "-p", "no:cacheprovider", *(f"tests/{name}" for name in files), cwd=ROOT
        )
        assert done.returncode == 0, done.stdout + done.stderr
        assert " passed" in done.stdout
        for extra in ("mercure", "redis", "metrics", "test"):
            assert f"pip install 'txsse[{extra}]'" in done.stdout


class MessageTests:
    @pytest.mark.slow
    def test_known_packages(self) -> None:
        """
        Every optional package that the code imports is in the table of packages, and setup.py declares its
        extra.
        """
        extras = {extra for extra, _ in PACKAGES.values()}
        assert extras <= set(read_setup()["extras_require"])  # type: ignore[call-overload]
        imported = set()
        for path in (ROOT / "txsse").rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.Import):
                    imported |= {alias.name.partition(".")[0] for alias in node.names}
                elif isinstance(node, ast.ImportFrom):
                    imported.add((node.module or "").partition(".")[0])
        always = {"txsse", "twisted", "zope", "automat", "attrs", "hyperlink", "constantly", "incremental"}
        # Only type checkers import it.
        always.add("_typeshed")
        assert imported - set(sys.stdlib_module_names) - always <= set(PACKAGES)

    @pytest.mark.parametrize(
        ("name", "message"),
        [
            ("OpenSSL.SSL", "it needs pyOpenSSL: pip install 'txsse[tls]'"),
            ("six", "it needs six: pip install 'txsse[tls]'"),
            (None, "it needs a package: pip install 'txsse[tls]'"),
        ],
    )
    def test_names(self, name: str | None, message: str) -> None:
        """
        The error for a missing package names it as pip does; without a name it still names the extra.
        """
        with pytest.raises(MissingExtra, match="it needs ") as caught, needs("tls", "it"):
            raise ImportError(name=name)
        assert str(caught.value) == message

    @pytest.mark.parametrize("error", [ImportError(name="txsse.gone"), MissingExtra("known", name="jwt")])
    def test_others(self, error: ImportError) -> None:
        """
        An import error of txsse's own modules, and an error that already names an extra, are not changed.
        """
        assert missing("tls", "it", error) is error
        with pytest.raises(ImportError) as caught, needs("tls", "it"):
            raise error
        assert caught.value is error

    def test_extra_of(self) -> None:
        """
        ``extra_of`` returns the extra that an import error's package belongs to, if any.
        """
        assert extra_of(ImportError(name="jwt.exceptions")) == "mercure"
        assert extra_of(ImportError(name="other")) is None
        assert extra_of(ImportError()) is None
