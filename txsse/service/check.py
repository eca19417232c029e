"""
The output of ``twist txsse --check``: the configuration in force, and the source of each value.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping

from txsse._output import visible
from txsse._redact import without_secrets
from txsse.service.config import Config, options

__all__ = ["describe_config"]


def describe_config(
    config: Config,
    places: Mapping[str, str],
    remarks: Iterable[str] = (),
    *,
    taken: Container[str] | None = None,
) -> str:
    """
    Write a table of the options, their values, and the source of each value. Secrets are not shown.

    :param config: the configuration.
    :param places: the source of each option's value, such as ``--url`` or ``TXSSE_URL``.
    :param remarks: further lines.
    :param taken: the options that the demo uses; ``None`` for a hub, which uses all of them.
    """
    lines = []
    ignored = []
    for option in options():
        place = places[option.name]
        if taken is None or option.name in taken:
            value = getattr(config, option.name.replace("-", "_"))
            lines.append((option.name, visible(_show(value, secret=option.secret)), visible(place)))
        elif place != "default":
            ignored.append(f"the demo ignores {visible(place)}")
    widths = [max(len(line[column]) for line in lines) for column in (0, 1)]
    table = [f"{name:{widths[0]}}  {value:{widths[1]}}  {place}" for name, value, place in lines]
    return "\n".join([*table, "", *ignored, *remarks, "Configuration is valid."]) + "\n"


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
