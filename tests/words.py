"""
The words that this project does not use, and a search for them in its prose: comments, docstrings, messages,
names of tests, documentation and pages.

``python -m tests.words [PATH...]`` prints each one with its line and its replacement; the status is 1 if it
found any. Many readers know English as a second language, and search for the terms of the field. Readers of
this project stumbled over each word of :data:`WORDS`.
"""

from __future__ import annotations

import io
import keyword
import re
import subprocess
import sys
import tokenize
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parent.parent
# This file and its test contain all the words.
EXEMPT = {"tests/words.py", "tests/test_words.py"}
# Since Python 3.12 an f-string has several tokens.
_FSTRING_START, _FSTRING_MIDDLE, _FSTRING_END = (
    getattr(tokenize, f"FSTRING_{part}", None) for part in ("START", "MIDDLE", "END")
)
SUFFIXES = {
    ".rst",
    ".md",
    ".html",
    ".js",
    ".mjs",
    ".php",
    ".lua",
    ".yaml",
    ".yml",
    ".toml",
    ".sh",
    ".txt",
    ".c",
    ".conf",
}
PEOPLE = (
    r"(?:clients?|subscribers?|nodes?|channels?|readers?|servers?|browsers?|peers?|publishers?|connections?)"
)
PROXY = (
    r"(?:(?:a|an|the|its|one|same|this|that|such|real|reverse|TLS|HTTP|load|corporate|nginx|haproxy|caddy|or)[-\s]+)*"
    r"(?:prox(?:y|ies)|balancers?|gateways?|NAT|firewalls?|CDNs?|nginx|haproxy|caddy)\b"
)


@dataclass(frozen=True)
class Word:
    """
    A word or phrase that is not used.

    :ivar pattern: a regular expression; a space in it stands for any white space, ``<`` at its beginning for
        the beginning of a sentence.
    :ivar instead: the words to use instead.
    :ivar allowed: a regular expression for the contexts in which the word is plain English.
    """

    pattern: str
    instead: str
    allowed: str | None = None

    def find(self, text: str) -> Iterator[re.Match[str]]:
        """
        Return the places of a text where the word is used.
        """
        allowed = [] if self.allowed is None else [m.span() for m in _compile(self.allowed).finditer(text)]
        for match in _compile(self.pattern).finditer(text):
            if not any(begin <= match.start() and match.end() <= end for begin, end in allowed):
                yield match


WORDS = (
    Word(r"\b(?:whoever|whomever)\b", "the actor: the client, the node, the caller, ..."),
    Word(r"\bthose who\b", "the actor: the clients that, the subscribers that, ..."),
    Word(r"\b(?:some|every|any|no)body\b", "the actor; 'no client', 'every subscriber', 'any caller', ..."),
    Word(r"\bno[- ]one\b(?!-)", "'no client', 'no subscriber', ..."),
    Word(r"<Who (?![^.]*\?)", "the actor: 'A client that ...'"),
    Word(
        r"\b(?:to|of|by|from|for|with|than|as|if|when|that|only|on|at|alone) who\b",
        "the actor: 'to the client that ...'",
    ),
    Word(r"<What (?![^.]*\?)", "the noun that it stands for: 'Updates that ...', 'The text that ...'"),
    Word(r"\bbef(?:all|alls|allen|ell)\b", "happen, fail"),
    Word(r"\blikewise\b", "also, the same"),
    Word(
        r"\b(?:is|are|was|were|be) (?-i:none)\b",
        "the condition: 'if no update ...', 'does not exist', 'is empty'",
    ),
    Word(
        r"\b(?:tell|tells|told|telling|tellings)\b",
        "notify, return, log, send, report, configure, disclose",
        r"\b(?:tell|tells|told|telling)\b(?: \S+){0,5}? (?:apart|from)\b",
    ),
    Word(
        r"\bbehind\b",
        "after (order), slow (speed), replaying (a subscriber)",
        rf"\bbehind {PROXY}|left behind|leaves? behind|leaving behind",
    ),
    Word(
        r"\b(?:is|are|was|were|be|been) out(?: for good)?(?=[\s\x00]*[,.;:)]|\x00| (?:when|while|and|for)\b)",
        "unavailable",
    ),
    Word(r"\b(?:let|lets|letting) go\b", "released"),
    Word(r"\brewinds?\b", "replay"),
    Word(
        r"\bleft to the journal\b",
        "replaying: 'the hub stops buffering for it, and it catches up from the journal'",
    ),
    Word(r"\bwhat (?:becomes|became|is to become) of\b", "overflow policy, outcome"),
    Word(r"\btimelines?\b", "epoch"),
    Word(
        r"\banchors?\b",
        "resume ID",
        r"HTML anchors?|(?:overflow|text)-anchor|\{anchor\}|\banchors? (?:element|link|tag|of a pattern)s?",
    ),
    Word(r"\b(?:put a note|notes elsewhere|notes of the (?:others|nodes))\b", "node metadata"),
    Word(r"\bto be had\b", "available"),
    Word(r"\bfor good\b", "permanently", r"for good (?:measure|reasons?)"),
    Word(r"\b(?:has|have|had) (?:its|their) answer\b", "'a response has been sent'"),
    Word(r"\b(?:make|makes|made|making) of (?:it|them|that)\b", "'how it handles ...', 'the result of ...'"),
    Word(
        rf"\b{PEOPLE} (?:that |which |who )?(?:goes|comes|leaves|go|come|leave|went|came)\b"
        r"(?! (?:up|down|on|back|through|first|before|after|from|with|in|into|over|to)\b)",
        "connects, disconnects, resumes",
    ),
)


def _compile(pattern: str) -> re.Pattern[str]:
    # Code is blanked by NUL: what follows it begins a sentence, as does what follows an empty line.
    start = r"(?:\A[\s\x00]*|(?<=[\x00.!?:;])\s+|\x00|\n[ \t]*\n[ \t]*)"
    if pattern.startswith("<"):
        return re.compile(start + pattern[1:].replace(" ", r"\s+"))
    return re.compile(pattern.replace(" ", r"\s+"), re.IGNORECASE)


def prose_of(path: str, text: str) -> str:
    """
    Return the prose of a file: its text with everything else blanked, so that lines stay where they are.
    """
    text = _python_prose(text, path.startswith("tests/")) if path.endswith(".py") else text
    # Literals are names, not prose; so are addresses.
    return re.sub(
        r"``.+?``|https?://[^\s>`'\"]+", lambda m: re.sub(r"[^\n]", "\x01", m[0]), text, flags=re.DOTALL
    )


def _python_prose(text: str, tests: bool) -> str:
    lines = text.splitlines(keepends=True)
    blank = [[c if c in "\r\n" else "\x00" for c in line] for line in lines]

    def keep(start: tuple[int, int], prose: str) -> None:
        row, column = start[0] - 1, start[1]
        for c in prose:
            if c in "\r\n":
                row, column = row + (c == "\n"), 0
            else:
                blank[row][column] = c
                column += 1

    before = ""
    # The texts of the f-strings around the token, from the outermost.
    texts: list[list[tokenize.TokenInfo]] = []
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type == tokenize.COMMENT:
            keep(token.start, " " + token.string[1:])
            # The comment goes on in the next line: no sentence begins there because of the code in between.
            for column in range(token.start[1]):
                if set(blank[token.start[0] - 1][: token.start[1]]) == {"\x00"}:
                    blank[token.start[0] - 1][column] = " "
        elif token.type == tokenize.STRING:
            opening = re.match(r"[A-Za-z]*(\"\"\"|'''|\"|')", token.string)
            assert opening is not None
            closing = len(token.string) - len(opening[1])
            text = token.string[opening.end() : closing]
            if "f" in token.string[: opening.start(1)].lower():
                text = re.sub(r"\{[^{}]*\}", lambda match: "\x01" * len(match[0]), text)
            # A string without white space is a name.
            if re.search(r"\s", text):
                keep(token.start, "\x00" * opening.end() + text)
        elif token.type == _FSTRING_START:
            texts.append([])
        elif token.type == _FSTRING_MIDDLE:
            texts[-1].append(token)
        elif token.type == _FSTRING_END:
            parts = texts.pop()
            if any(re.search(r"\s", part.string) for part in parts):
                for part in parts:
                    keep(part.start, part.string)
        elif token.type == tokenize.NAME and before in ("def", "class") and tests:
            words = re.sub(r"(?<=[a-z])(?=[A-Z])|_", " ", token.string)
            keep(
                token.start,
                (" " + words)[: len(token.string)] if " " in words else "\x00" * len(token.string),
            )
        if token.type == tokenize.NAME and keyword.iskeyword(token.string):
            before = token.string
        elif token.type == tokenize.NAME:
            before = ""
    return "".join(c for line in blank for c in line)


def find(path: str, text: str) -> list[tuple[int, str, Word]]:
    """
    Return the words of the list that a file uses: line, text, entry.
    """
    prose = prose_of(path, text)
    found = []
    for word in WORDS:
        for match in word.find(prose):
            begin = match.start() + len(match[0]) - len(match[0].lstrip("\x00 \t\r\n"))
            shown = " ".join(match[0].replace("\x00", " ").split())
            found.append((prose.count("\n", 0, begin) + 1, shown, word))
    return sorted(found, key=lambda entry: entry[:2])


def files(paths: Iterable[str] = ()) -> list[str]:
    """
    Return the files of the repository that have prose; where there is no repository, those of this directory.
    """
    wanted = list(paths) or ["."]
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "--", *wanted]
    try:
        listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.split(
            "\n"
        )
    except (OSError, subprocess.CalledProcessError):
        found = (
            path
            for name in wanted
            for path in ([ROOT / name] if (ROOT / name).is_file() else (ROOT / name).rglob("*"))
        )
        listed = sorted(str(path.relative_to(ROOT)) for path in found if "node_modules" not in path.parts)
    return [
        name
        for name in listed
        if name not in EXEMPT
        and (ROOT / name).is_file()
        and (name.endswith(".py") or Path(name).suffix in SUFFIXES or name.startswith(".ci/"))
    ]


def main(paths: list[str]) -> int:
    """
    Print the words found in files, and return the exit status.
    """
    count = 0
    for name in files(paths):
        for line, shown, word in find(name, (ROOT / name).read_text(encoding="utf-8")):
            print(f"{name}:{line}: {shown!r}: write {word.instead}")
            count += 1
    print(f"{count} found" if count else "No word of the list is used.", file=sys.stderr)
    return int(count > 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
