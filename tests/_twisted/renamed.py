"""
A program that renames private names in Twisted's own source while it is imported, and then uses txsse.

``python -m tests._twisted.renamed CERTIFICATE NUMBER...``: the numbers are rows of
:data:`txsse._twisted.names.NAMES`. It prints, as JSON, which sinks the streams had, how many names it has
    renamed, and what was logged as a failure.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from importlib import import_module
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from pkgutil import walk_packages
from typing import Any

from txsse._extras import MissingExtra
from txsse._twisted.names import NAMES, PrivateName

# Words that have other meanings in the same module: only ``self.word`` and definitions in a class are
# renamed.
AMBIGUOUS = {"state", "length", "command", "path"}

renamed: set[PrivateName] = set()


def rename(source: str, each: PrivateName) -> str:
    """
    Return the source of a module of Twisted in which a private name is renamed.
    """
    if each.name not in AMBIGUOUS:
        return re.sub(rf"\b{each.name}\b", f"{each.name}_renamed", source)
    head, found, rest = source.partition(f"\nclass {each.owner}")
    end = re.search(r"\n(?=class |def |@)", rest)
    body = rest[: end.start()] if end else rest
    changed = re.sub(rf"((?<=self\.)|(?<=\n    ))\b{each.name}\b(?=\W)", f"{each.name}_renamed", body)
    return head + found + changed + rest[len(body) :]


class Renaming(SourceFileLoader):
    """
    Loads a module with renamed names.
    """

    names: Sequence[PrivateName] = ()

    def get_code(self, fullname: str) -> Any:
        path = self.get_filename(fullname)
        source = self.get_data(path).decode("utf-8")
        for each in self.names:
            changed = rename(source, each)
            if changed != source:
                renamed.add(each)
            source = changed
        return compile(source, path, "exec", dont_inherit=True)


class Finder(MetaPathFinder):
    """
    Finds the modules in which names are renamed.
    """

    def __init__(self, names: Sequence[PrivateName]) -> None:
        self._names = names

    def find_spec(self, fullname: str, path: Any, target: Any = None) -> ModuleSpec | None:
        names = [each for each in self._names if each.module == fullname]
        if not names:
            return None
        spec = PathFinder.find_spec(fullname, path, target)
        assert spec is not None and spec.origin is not None
        loader = Renaming(fullname, spec.origin)
        loader.names = names
        spec.loader = loader
        return spec


def use(certificate: str) -> dict[str, Any]:
    """
    Use txsse in every way that depends on a private name; return what was observed.
    """
    from twisted.logger import globalLogPublisher

    from tests._twisted import usage
    from txsse import JournalFailed

    problems: list[str] = []

    def observe(event: Any) -> None:
        # Twisted may log a dropped failure.
        if "log_failure" in event and event["log_failure"].type is not JournalFailed:
            problems.append(event["log_failure"].getTraceback())

    globalLogPublisher.addObserver(observe)  # type: ignore[arg-type]
    found = usage.run(certificate)
    return {"found": found, "problems": problems}


def import_all() -> None:
    """
    Import every module of txsse.
    """
    import txsse

    for module in walk_packages(txsse.__path__, "txsse."):
        if module.name != "txsse.__main__":
            # Some of them need an optional package that is not installed.
            with suppress(MissingExtra):
                import_module(module.name)


def main(certificate: str, *numbers: str) -> None:
    """
    Rename the names, import all modules, and use txsse.
    """
    names = [NAMES[int(number)] for number in numbers]
    sys.meta_path.insert(0, Finder(names))
    if len(names) != 1:
        # This takes as long as everything else, and needs to be tested only once.
        import_all()
    result = use(certificate)
    result["renamed"] = len(renamed)
    sys.stdout.write(json.dumps(result) + "\n")


if __name__ == "__main__":
    run: Callable[..., None] = main
    run(*sys.argv[1:])
