"""
What the service is told, for people.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping

from txsse._output import visible
from txsse._redact import without_secrets
from txsse.service.config import Config, options

__all__ = ["report"]


def report(
    config: Config,
    places: Mapping[str, str],
    remarks: Iterable[str] = (),
    *,
    taken: Container[str] | None = None,
) -> str:
    """
    Write what is in force, and where that stands; secrets are not shown.

    :param config: what the service is told.
    :param places: where each of it stands.
    :param remarks: what else there is to say.
    :param taken: the options that the demo takes; ``None`` for a hub, which takes them all.
    """
    lines = []
    ignored = []
    for option in options():
        place = places[option.name]
        if taken is None or option.name in taken:
            value = getattr(config, option.name.replace("-", "_"))
            lines.append((option.name, visible(_show(value, secret=option.secret)), visible(place)))
        elif place != "default":
            ignored.append(f"the demo does not take {visible(place)}")
    widths = [max(len(line[column]) for line in lines) for column in (0, 1)]
    table = [f"{name:{widths[0]}}  {value:{widths[1]}}  {place}" for name, value, place in lines]
    return "\n".join([*table, "", *ignored, *remarks, "The service can be like that."]) + "\n"


def _show(value: object, *, secret: bool) -> str:
    if value is None:
        return "-"
    if secret:
        return "(secret)"
    if isinstance(value, tuple):
        return " ".join(map(without_secrets, value)) or "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:g}" if isinstance(value, float) else without_secrets(str(value))
