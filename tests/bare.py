"""
Environments that contain only txsse, its requirements and chosen extras, as ``pip install txsse`` makes them.
They are directories of links to the packages that are installed here.
"""

from __future__ import annotations

import runpy
import subprocess
import sys
import types
from collections.abc import Iterator, Sequence
from importlib.metadata import PackageNotFoundError, distribution
from importlib.util import find_spec
from pathlib import Path
from unittest import mock

import pytest
from packaging.requirements import Requirement

from tests.processes import ROOT, finish, python
from txsse._extras import PACKAGES


def read_setup() -> dict[str, object]:
    """
    Return the arguments that setup.py passes to setuptools.
    """
    given: dict[str, object] = {}
    fake = types.ModuleType("setuptools")
    fake.setup = given.update  # type: ignore[attr-defined]
    fake.find_packages = lambda **_: []  # type: ignore[attr-defined]
    with mock.patch.dict(sys.modules, setuptools=fake):
        runpy.run_path(str(ROOT / "setup.py"))
    return given


def requirements(*extras: str) -> list[str]:
    """
    Return the requirements that setup.py declares, with those of the given extras.
    """
    given = read_setup()
    optional: dict[str, list[str]] = given["extras_require"]  # type: ignore[assignment]
    required: list[str] = given["install_requires"]  # type: ignore[assignment]
    return [*required, *(each for extra in extras for each in optional[extra])]


def closure(wanted: list[str]) -> Iterator[str]:
    """
    Yield the names of the distributions that these requirements install, directly or indirectly.
    """
    done = set()
    waiting = [Requirement(each) for each in wanted]
    while waiting:
        requirement = waiting.pop()
        key = requirement.name.lower(), frozenset(requirement.extras)
        if key in done:
            continue
        done.add(key)
        try:
            needed = distribution(requirement.name).requires or []
        except PackageNotFoundError:
            # Not installed here, such as a requirement of other Python versions or systems.
            continue
        yield requirement.name
        for text in needed:
            each = Requirement(text)
            extras = ["", *requirement.extras]
            if each.marker is None or any(each.marker.evaluate({"extra": extra}) for extra in extras):
                waiting.append(each)


def skip_without(extra: str) -> None:
    """
    Skip the test if a package of an extra is not installed here.
    """
    for module, (of, name) in PACKAGES.items():
        if of == extra and find_spec(module) is None:
            pytest.skip(f"needs {name}: pip install 'txsse[{extra}]'")


class Environment:
    """
    A directory of packages, which is the only one that Python imports from, besides the standard library.

    :param directory: an empty directory.
    :param extras: the extras that it contains.
    :param also: further distributions that it contains.
    """

    def __init__(self, directory: Path, *extras: str, also: Sequence[str] = ()) -> None:
        self.directory = directory
        for extra in extras:
            skip_without(extra)
        for name in closure([*requirements(*extras), *also]):
            found = distribution(name)
            for top in {file.parts[0] for file in found.files or () if file.parts[0] not in ("..", "/")}:
                target = Path(str(found.locate_file(top)))
                link = directory / top
                if top != "__pycache__" and target.exists() and not link.exists():
                    link.symlink_to(target)
        (directory / "txsse").symlink_to(ROOT / "txsse")

    def run(self, *arguments: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
        """
        Run Python with these arguments, and return its exit status and output.
        """
        # With CI=true a skipped test fails the run; here many are skipped.
        env = {"CI": "", "PYTHONPATH": str(self.directory), "PYTHONDONTWRITEBYTECODE": "1"}
        # ``-S`` leaves out site-packages.
        return finish(python("-S", "-P", *arguments), cwd=cwd or self.directory, env=env)
