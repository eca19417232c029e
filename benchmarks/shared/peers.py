"""
The set-up: what is compared is fetched into ``benchmarks/.peers``, and what is written in C is compiled.

The package needs none of this. What cannot be had leaves out what needs it alone, and says what to install.
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

    :ivar wanted: what it takes to make it.
    """

    name: str
    wanted: str

    @abstractmethod
    def is_there(self) -> bool:
        """
        Tell whether it need not be made.
        """

    @abstractmethod
    def make(self) -> None:
        """
        Make it, of the newest versions.

        :raises OSError: where that cannot be.
        :raises subprocess.SubprocessError: likewise.
        """


class PythonPackages(Part):
    """
    An environment of Python's, with packages.
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
    A folder with a package of Node's.
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
        # Without a file of its own, npm would look for one further up.
        (self.folder / "package.json").write_text('{"private": true}\n', encoding="utf-8")
        npm = ["npm", "install", "--silent", "--no-fund", "--no-audit", f"{self.package}@latest"]
        run(npm, folder=self.folder)


@dataclass(frozen=True)
class Compiled:
    """
    A program in C.
    """

    binary: Path
    source: Path

    def is_compiled(self) -> bool:
        """
        Tell whether that is done, and nothing has changed since.
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
        Compile it, unless that is done.

        :raises Failed: where that cannot be.
        """
        if not self.is_compiled():
            try:
                self.compile()
            except (OSError, subprocess.SubprocessError) as error:
                raise Failed(f"needs gcc: {error}") from None


def set_up(parts: Iterable[Part], *, again: bool) -> dict[str, str]:
    """
    Make what is missing.

    :param again: whether to fetch the newest versions of what is there.
    :returns: what could not be made, by its name, with the reason.
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
    Tell what is compared.

    :param debian: Debian's packages, by what they are called in the results.
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

    :returns: what it wrote to its standard output.
    """
    return subprocess.run(
        command, cwd=folder, env=environment, timeout=timeout, check=True, capture_output=True, text=True
    ).stdout


def _reason(error: Exception) -> str:
    text = str(getattr(error, "stderr", None) or error)
    return text.strip().splitlines()[-1]
