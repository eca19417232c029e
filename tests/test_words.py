"""
The words that the project does not use: the search for them, and the repository.
"""

from __future__ import annotations

import pytest

from tests.words import WORDS, Word, find

# For each word, sentences that use it and sentences that do not.
SENTENCES = [
    (("Whoever asks gets 403.", "to whomever it may concern"), ("The client gets 403.",)),
    (("those who wait",), ("those whose grants end",)),
    (("nobody reads it", "Everybody else waits.", "somebody's page"), ("no client reads it",)),
    (("no one reads it", "no-one"), ("no one-way stream",)),
    (("Who asks twice gets 403.", "It fails. Who asks gets 403."), ("Who asks?", "a client who asks")),
    (("an answer to who asked", "only who asked"), ("a client who asked",)),
    (
        ("What is missing is sent.", "It ends. What follows is lost."),
        ("What is missing?", "See what follows."),
    ),
    (("what befell it",), ("what happened",)),
    (("likewise",), ("also",)),
    (("where there is none", "if the topic is none"), ("``None``", "none of the topics")),
    (
        ("It tells the client.", "the client was told"),
        ("It tells the two apart.", "to tell a gap from an end"),
    ),
    (
        ("behind the page", "a reader that is behind"),
        ("behind a reverse proxy", "behind nginx", "left behind"),
    ),
    (("Redis is out.", "while it is out for an hour"), ("It is out of memory.", "it runs out")),
    (("lets go of it", "let go"), ("let it run",)),
    (("rewind", "rewinds"), ("replay",)),
    (("left to the journal",), ("kept in the journal",)),
    (("what becomes of it",), ("what it becomes",)),
    (("another timeline",), ("another epoch",)),
    (("the anchor",), ("an HTML anchor",)),
    (("put a note",), ("node metadata",)),
    (("is to be had",), ("to be handled",)),
    (("closed for good",), ("for good reasons",)),
    (("the client has its answer",), ("the client has its answers sorted",)),
    (("what it makes of it",), ("it is made of two parts",)),
    (("the client goes", "clients that leave"), ("the client goes on", "the server comes first")),
]


@pytest.mark.parametrize(("word", "sentences"), [*zip(WORDS, SENTENCES, strict=True)], ids=lambda value: "")
def test_list(word: Word, sentences: tuple[tuple[str, ...], tuple[str, ...]]) -> None:
    """
    Each entry of the list finds its word, and accepts plain English.
    """
    for sentence in sentences[0]:
        assert list(word.find(sentence)), sentence
    for sentence in sentences[1]:
        assert not list(word.find(sentence)), sentence


class PythonTests:
    def found(self, text: str, path: str = "txsse/a.py") -> list[tuple[int, str]]:
        return [(line, shown) for line, shown, _ in find(path, text)]

    def test_prose(self) -> None:
        """
        Words are found in comments, docstrings and messages, with their lines.
        """
        text = '"""\nSays what nobody knows.\n"""\n# Whoever reads\nlog("somebody came")\n'
        assert self.found(text) == [(2, "nobody"), (4, "Whoever"), (5, "somebody")]

    def test_code(self) -> None:
        """
        Names, keywords and strings without spaces are no prose.
        """
        assert self.found('nobody = told.behind("whoever")\nwhoever: int\n') == []

    def test_f_strings(self) -> None:
        """
        The text of an f-string is prose if it has white space; its expressions are code.
        """
        assert self.found('f"{told} nobody {whoever} else"\n') == [(1, "nobody")]
        assert self.found('f"nobody{told}"\n') == []

    def test_literals_and_addresses(self) -> None:
        """
        Literals and URLs in prose are skipped.
        """
        assert self.found('"""\nSee ``hub.told`` and https://example.org/nobody here.\n"""\n') == []

    def test_names_of_tests(self) -> None:
        """
        The names of tests are prose, those of other functions are not.
        """
        text = "def test_nobody_reads() -> None: ...\nclass ToldTwiceTests: ...\n"
        assert self.found(text, "tests/test_a.py") == [(1, "nobody"), (2, "Told")]
        assert self.found(text) == []

    def test_beginning_of_a_sentence(self) -> None:
        """
        A sentence begins with a docstring, a comment or after a full stop, and not with a line.
        """
        text = '"""\nWhat is kept.\n"""\n# It returns\n# What is kept.\n# It ends. What is kept?\n'
        assert self.found(text) == [(2, "What")]

    def test_phrase_over_two_lines(self) -> None:
        """
        A phrase is found across a line break, also in a comment.
        """
        assert self.found("# for those\n# who wait\n") == [(1, "those who")]
        assert self.found('"""\nfor those\nwho wait\n"""\n') == [(2, "those who")]


def test_pages() -> None:
    """
    All of the text of a page is prose.
    """
    assert [line for line, _, _ in find("docs/a.rst", "One\n===\n\nwhoever reads, and nobody else\n")] == [
        4,
        4,
    ]
