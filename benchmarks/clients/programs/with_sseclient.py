"""
sseclient-py with requests, as in its README: ``python with_sseclient.py URL EVENTS TYPE``.
"""

from __future__ import annotations

import sys

import requests
import sseclient
from tally import tally


def main() -> None:
    url, events, _ = sys.argv[1:]
    take, report = tally(int(events))
    with requests.get(url, stream=True, headers={"Accept": "text/event-stream"}) as response:
        for event in sseclient.SSEClient(response).events():
            if take(event.data):
                report(event.data, event.event, event.id or "")
                break


if __name__ == "__main__":
    main()
