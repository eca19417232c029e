"""
The same scripts, played to our client, to Node's ``eventsource`` and to Chromium; each client must behave as
the standard requires, except for the differences in ``differences.py``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import pytest
import pytest_twisted

from tests.peers.differences import CHROMIUM, NODE, NODE_18, OURS, Difference
from tests.peers.played import NodeNotes, Scripts
from tests.peers.script import Note
from tests.peers.scripts import SCRIPTS
from tests.waiting import until
from txsse import EventSource, ReadyState, ServerSentEvent

if TYPE_CHECKING:
    from selenium.webdriver import Chrome

_RECORD = """
const [url, types, done] = arguments;
import("/record.mjs").then(({ record }) => record(EventSource, url, types)).then(done);
"""


def shortened(record: Sequence[Any]) -> str:
    text = repr(record)
    return text if len(text) < 1000 else f"{text[:500]} ... {text[-500:]}"


def check(
    scripts: Scripts, client: str, name: str, notes: Sequence[Note], differences: Mapping[str, Difference]
) -> None:
    """
    Compare the notes that a client took, and its requests, with the script.
    """
    script = SCRIPTS[name]
    difference = differences.get(name, Difference("none"))
    requests = scripts.requests(client, name)
    for found, standard, other in (
        (list(notes), list(script.notes), difference.notes),
        ([request.visited for request in requests], list(script.visits), difference.visits),
    ):
        expected = standard if other is None else list(other)
        # Without pytest's comparison of the operands, which takes very long for two megabytes.
        same = found == expected
        assert same, f"{shortened(found)} and not {shortened(expected)}"
    assert {request.headers["accept"] for request in requests} == {"text/event-stream"}
    assert {request.headers["cache-control"] for request in requests} == {"no-cache"}


def record(scripts: Scripts, name: str) -> tuple[EventSource, list[Note]]:
    """
    Play a script to our client, and take the notes that ``record.mjs`` would take.
    """
    notes: list[Note] = []

    def received(event: ServerSentEvent) -> None:
        notes.append((event.event or "", event.data, event.id or ""))
        if event.event == "seen":
            scripts.report_seen("ours", name)

    def opened(_: None) -> None:
        notes.append(("open", int(source.ready_state)))

    def failed(error: Exception) -> None:
        notes.append(("error", int(source.ready_state)))
        if source.ready_state is ReadyState.CONNECTING:
            source.when_open().addCallbacks(opened, lambda failure: None)

    source = EventSource(scripts.url("ours", name), max_retry=0.05, event_received=received, on_error=failed)
    source.when_open().addCallbacks(opened, lambda failure: None)
    source.start()
    return source, notes


class OwnClientTests:
    @pytest_twisted.ensureDeferred
    @pytest.mark.parametrize("name", SCRIPTS)
    async def test_script(self, scripts: Scripts, name: str) -> None:
        """
        ``EventSource`` behaves as the standard requires for each script, except for listed differences.
        """
        source, notes = record(scripts, name)
        await until(lambda: source.ready_state is ReadyState.CLOSED)
        check(scripts, "ours", name, notes, OURS)
        last = SCRIPTS[name].visits[-1][1]
        assert name in OURS or source.last_event_id.strip() == (last or "")


class NodeTests:
    @pytest.mark.parametrize("name", SCRIPTS)
    def test_script(self, scripts: Scripts, node_notes: NodeNotes, name: str) -> None:
        """
        Node's ``eventsource`` behaves as the standard requires for each script, except for listed
        differences.
        """
        differences = NODE if node_notes.version >= 20 else {**NODE, **NODE_18}
        check(scripts, "node", name, node_notes.by_script[name], differences)


class ChromiumTests:
    @pytest.mark.parametrize("name", SCRIPTS)
    def test_script(self, scripts: Scripts, tab: Chrome, name: str) -> None:
        """
        Chromium's ``EventSource`` behaves as each script states, except for listed differences.
        """
        tab.get(scripts.origin)
        notes = tab.execute_async_script(_RECORD, scripts.url("chromium", name), SCRIPTS[name].types)
        check(scripts, "chromium", name, [tuple(note) for note in notes], CHROMIUM)


class DifferenceTests:
    @pytest.mark.parametrize("differences", [OURS, NODE, NODE_18, CHROMIUM])
    def test_differs(self, differences: Mapping[str, Difference]) -> None:
        """
        Every listed difference belongs to a script and differs from it.
        """
        for name, difference in differences.items():
            script = SCRIPTS[name]
            notes = script.notes if difference.notes is None else difference.notes
            visits = script.visits if difference.visits is None else difference.visits
            assert (list(notes), list(visits)) != (list(script.notes), list(script.visits)), name
