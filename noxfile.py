"""
The checks of a change, each one a session: ``nox -s fast`` while you work, ``nox`` before you send it.

CI runs the same sessions by ``.ci/run``, in an environment that is there already (``nox --no-venv``).
"""

from __future__ import annotations

import nox

nox.needs_version = ">=2024.4"
nox.options.reuse_venv = "yes"
nox.options.sessions = ["lint", "types", "words", "fast"]

# The processors share the tests; a worker that has none left takes some from another.
WORKERS = ("-n", "auto", "--dist", "worksteal")


def install(session: nox.Session, *packages: str) -> None:
    """
    Install packages, unless the session uses the environment that nox itself runs in.
    """
    if session.venv_backend != "none":
        session.install(*packages)


@nox.session
def fast(session: nox.Session) -> None:
    """
    Run the tests that need nothing but Python: no other process, no generated inputs.
    """
    install(session, "-e", ".[test]")
    # This plugin takes seconds to import, and none of these tests needs it.
    session.run("pytest", "--fast", "-p", "no:schemathesis", *WORKERS, *session.posargs)


@nox.session
def tests(session: nox.Session) -> None:
    """
    Run all tests, and measure the coverage.
    """
    install(session, "-e", ".[test]")
    session.run("pytest", *WORKERS, "--cov", "--cov-report=term-missing:skip-covered", *session.posargs)


@nox.session
def lint(session: nox.Session) -> None:
    """
    Check the style and the format of the code.
    """
    install(session, "ruff>=0.6")
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")


@nox.session
def types(session: nox.Session) -> None:
    """
    Check the types.
    """
    install(session, "-e", ".[dev]")
    session.run("mypy")


@nox.session
def words(session: nox.Session) -> None:
    """
    Search the prose for words that this project does not use.
    """
    session.run("python", "-m", "tests.words", *session.posargs)


@nox.session
def docs(session: nox.Session) -> None:
    """
    Build the documentation into build/docs; a warning is an error.
    """
    install(session, "-e", ".[dev]")
    session.run("sphinx-build", "-W", "--keep-going", "-q", "-d", "build/doctrees", "docs", "build/docs")
    session.run("towncrier", "build", "--draft", silent=True)


@nox.session
def wheel(session: nox.Session) -> None:
    """
    Build the sdist and the wheel, and try the wheel in an empty environment.
    """
    install(session, "build", "docutils", "pygments")
    session.run("bash", ".ci/wheel", external=True)


@nox.session(python=["3.11", "3.12", "3.13", "3.14"])
@nox.parametrize("twisted", ["oldest", "newest"])
def matrix(session: nox.Session, twisted: str) -> None:
    """
    Run the tests on a Python with a Twisted; what browsers and other people's programs do is the same on all.
    """
    constraints = ["-c", ".ci/oldest.txt"] if twisted == "oldest" else []
    session.install(*constraints, ".[test]")
    session.run("pytest", *WORKERS, "-m", "not (browser or node or proxy)", *session.posargs)
