"""
The set-up of benchmarks: install the other projects into ``benchmarks/.peers``, and compile the C programs.

txsse itself needs none of this. If a part cannot be installed, the benchmark leaves out only what needs it,
and reports what to install.
"""

from __future__ import annotations

import subprocess
import sys
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from shared.processes import Failed

BENCHMARKS = Path(__file__).parent.parent
ROOT = BENCHMARKS.parent
CACHE = BENCHMARKS / ".peers"

# Both load generators include it.
_HEADER = Path(__file__).with_name("subscribers.h")


class Part(ABC):
    """
    A part of the set-up.

    :ivar name: its name in messages.
    :ivar wanted: what its installation needs, as a sentence.
    """

    name: str
    wanted: str

    @abstractmethod
    def is_there(self) -> bool:
        """
        Return whether it is already installed.
        """

    @abstractmethod
    def make(self) -> None:
        """
        Install it, in the newest versions.

        :raises OSError: if that fails.
        :raises subprocess.SubprocessError: if a command fails.
        """


class PythonPackages(Part):
    """
    A virtual environment with Python packages.
    """

    name = "python"

    def __init__(self, folder: Path, packages: Sequence[str]) -> None:
        self.python = folder / "bin" / "python"
        self.packages = packages
        self.wanted = f"needs {', '.join(packages)} by pip"
        self._folder = folder
        self._complete = self.python.with_name("complete")

    def is_there(self) -> bool:
        return self._complete.exists()

    def make(self) -> None:
        run([sys.executable, "-m", "venv", str(self._folder)])
        pip = [str(self.python), "-m", "pip", "--disable-pip-version-check", "--quiet"]
        run([*pip, "install", "--upgrade", *self.packages])
        self._complete.touch()


class NodePackage(Part):
    """
    A folder with a Node package.
    """

    name = "node"

    def __init__(self, folder: Path, package: str) -> None:
        self.folder = folder
        self.package = package
        self.wanted = f"needs node 20, npm (Debian: nodejs, npm), and {package} by npm"

    def is_there(self) -> bool:
        try:
            run(["node", "--version"])
        except (OSError, subprocess.SubprocessError):
            return False
        return (self.folder / "node_modules" / self.package).is_dir()

    def make(self) -> None:
        run(["node", "--version"])
        self.folder.mkdir(exist_ok=True)
        # Without this file, npm would use that of a parent folder.
        (self.folder / "package.json").write_text('{"private": true}\n', encoding="utf-8")
        npm = ["npm", "install", "--silent", "--no-fund", "--no-audit", f"{self.package}@latest"]
        run(npm, folder=self.folder)


@dataclass(frozen=True)
class Compiled:
    """
    A C program.
    """

    binary: Path
    source: Path

    def is_compiled(self) -> bool:
        """
        Return whether the binary is newer than its sources.
        """
        newest = max(self.source.stat().st_mtime, _HEADER.stat().st_mtime)
        return self.binary.exists() and self.binary.stat().st_mtime > newest

    def compile(self) -> None:
        """
        Compile it.
        """
        run(["gcc", "-O2", "-Wall", "-o", str(self.binary), str(self.source)])

    def require(self) -> None:
        """
        Compile it, unless the binary is up to date.

        :raises Failed: if it cannot be compiled.
        """
        if not self.is_compiled():
            try:
                self.compile()
            except (OSError, subprocess.SubprocessError) as error:
                raise Failed(f"needs gcc: {error}") from None


def set_up(parts: Iterable[Part], *, again: bool) -> dict[str, str]:
    """
    Install the missing parts.

    :param again: whether to reinstall existing parts, in the newest versions.
    :returns: the parts that could not be installed, with the reasons.
    """
    CACHE.mkdir(exist_ok=True)
    missing = {}
    for part in parts:
        if again or not part.is_there():
            print(f"set-up: {part.name}", file=sys.stderr)
            try:
                part.make()
            except (OSError, subprocess.SubprocessError) as error:
                missing[part.name] = f"{part.wanted}: {_reason(error)}"
    return missing


def versions(python: PythonPackages, node: NodePackage, debian: Mapping[str, str]) -> dict[str, str]:
    """
    Return the versions of all that is compared, by name.

    :param debian: Debian packages, by their names in the results.
    """
    code = f"from importlib.metadata import version as v; print(*map(v, {python.packages!r}))"
    package = f"require('./node_modules/{node.package}/package.json').version"
    asked = {
        "python": ([str(python.python), "--version"], "Python"),
        "packages": ([str(python.python), "-c", code], ""),
        "node": (["node", "--version"], "v"),
        node.package: (["node", "-p", package], ""),
        **{name: (["dpkg-query", "-Wf", "${Version}", each], "") for name, each in debian.items()},
    }
    found = {}
    for name, (command, prefix) in asked.items():
        try:
            text = run(command, folder=node.folder if node.folder.exists() else CACHE, timeout=20)
        except (OSError, subprocess.SubprocessError):
            continue
        found[name] = text.strip().removeprefix(prefix).strip()
    if "packages" in found:
        found.update(zip(python.packages, found.pop("packages").split(), strict=True))
    return found


def run(
    command: Sequence[str],
    *,
    folder: Path = CACHE,
    environment: Mapping[str, str] | None = None,
    timeout: float = 600,
) -> str:
    """
    Run a command.

    :returns: its standard output.
    """
    return subprocess.run(
        command, cwd=folder, env=environment, timeout=timeout, check=True, capture_output=True, text=True
    ).stdout


def _reason(error: Exception) -> str:
    text = str(getattr(error, "stderr", None) or error)
    return text.strip().splitlines()[-1]
