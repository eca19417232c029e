"""
A log that limits the rate of its lines, for failures that may occur at any rate.
"""

from __future__ import annotations

from twisted.logger import LogEvent, Logger, formatEvent

from txsse._rate_limited_log import RateLimitedLog


def test_a_few_a_minute() -> None:
    """
    A rate-limited log writes five lines a minute in full, and then the number of lines that it left out.
    """
    events: list[LogEvent] = []
    now = 0.0
    sparing = RateLimitedLog(Logger(observer=events.append), clock=lambda: now)  # type: ignore[arg-type]
    for number in range(100):
        try:
            raise ZeroDivisionError(number)
        except ZeroDivisionError:
            sparing.failure("failure {number}", number=number)
    assert [formatEvent(event) for event in events] == [f"failure {number}" for number in range(5)]
    assert all(event["log_failure"].type is ZeroDivisionError for event in events)
    events.clear()
    now = 59.9
    sparing.error("not yet")
    assert events == []
    now = 60.0
    sparing.error("again")
    assert [formatEvent(event) for event in events] == [
        "96 similar errors before this one were not logged",
        "again",
    ]
