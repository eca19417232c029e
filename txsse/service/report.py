"""
What the service is told, for people.
"""

from __future__ import annotations

from collections.abc import Mapping

from txsse.service.config import Config, options
from txsse.service.issuers import describe_keys, read_keys

__all__ = ["report"]


def report(config: Config, places: Mapping[str, str]) -> str:
    """
    Write what is in force, and where that stands; secrets are not shown.
    """
    lines = []
    for option in options():
        value = getattr(config, option.name.replace("-", "_"))
        lines.append((option.name, _show(value, secret=option.secret), places[option.name]))
    widths = [max(len(line[column]) for line in lines) for column in (0, 1)]
    table = [f"{name:{widths[0]}}  {value:{widths[1]}}  {place}" for name, value, place in lines]
    keys = [
        f"keys to {role}: {describe_keys(read_keys(config, role)) or 'none'}"
        for role in ("publish", "subscribe")
    ]
    return "\n".join([*table, "", *keys, "The service can be like that."]) + "\n"


def _show(value: object, *, secret: bool) -> str:
    if value is None:
        return "-"
    if secret:
        return "(secret)"
    if isinstance(value, tuple):
        return " ".join(value) or "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:g}" if isinstance(value, float) else str(value)
