# python examples/follow.py http://127.0.0.1:8080/events
# Follows a stream, such as that of examples/clock.py. If its server restarts, this program reconnects.

import sys

from twisted.internet import interfaces, task

from txsse import EventSource, StreamRefused


async def main(
    reactor: interfaces.IReactorTime, url: str = "http://127.0.0.1:8080/events", count: str = "inf"
) -> None:
    source = EventSource(
        url,
        # The server sends a comment after 15 seconds without events. After 45, the connection counts as lost.
        read_timeout=45,
        # A proxy or a server may respond so while the server starts: try again.
        reconnect_on=[502, 503, 504],
        on_error=lambda error: print(f"({error})", flush=True),
    )
    left = float(count)
    try:
        async for event in source:
            print(event.data, flush=True)
            left -= 1
            if not left:
                source.close()
    except StreamRefused:
        # on_error has printed the reason.
        raise SystemExit(1) from None


task.react(main, sys.argv[1:])
