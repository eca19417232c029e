# python examples/follow.py http://127.0.0.1:8080/events
# Follows a stream, such as that of examples/clock.py. Stop its server, start it again: this goes on.

import sys

from twisted.internet import interfaces, task

from txsse import EventSource, StreamRefused


async def main(
    reactor: interfaces.IReactorTime, url: str = "http://127.0.0.1:8080/events", count: str = "inf"
) -> None:
    source = EventSource(
        url,
        # The clock sends a comment after 15 seconds of silence: three of these are too many.
        read_timeout=45,
        # A server that starts may answer so, and then open the stream after all.
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
        # It has been printed.
        raise SystemExit(1) from None


task.react(main, sys.argv[1:])
