"""
Many blocks at once. Most streams hold blocks that are alike, a hundred in each chunk; these are taken apart
by a few calls into the interpreter's own code for all of them, instead of a few for each line.
"""

from __future__ import annotations

__all__ = ["columns"]

_FIELDS = frozenset(["data", "event", "id"])


def columns(text: str) -> dict[str, list[str]] | None:
    """
    Take whole blocks apart that hold the same fields in the same order, each at most once and ``data``
    among them.

    :param text: blocks, each with the empty line behind it; lines end at LF.
    :returns: the values by field, one for each block; ``None`` where the blocks are not alike.
    """
    if text.startswith("data: "):
        values = text[6:-2].split("\n\ndata: ")
        if text.count("\n") == 2 * len(values):
            return {"data": values}
    lines = text.split("\n")
    del lines[-1]
    height = lines.index("") + 1
    if len(lines) % height or any(lines[height - 1 :: height]):
        return None
    found: dict[str, list[str]] = {}
    for row in range(height - 1):
        name, colon, _ = lines[row].partition(": ")
        if not colon or name in found or name not in _FIELDS:
            return None
        column = lines[row::height]
        prefix = name + ": "
        joined = "\n".join(column)
        # A line holds no LF, so what is found behind one is the beginning of a line.
        values = joined[len(prefix) :].split("\n" + prefix)
        if not joined.startswith(prefix) or len(values) != len(column):
            return None
        found[name] = values
    return found if "data" in found else None
