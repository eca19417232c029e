"""
Parse many event blocks of one shape at once.

Most streams contain blocks of the same shape, a hundred in each chunk. A few calls into the interpreter's own
code parse all of them, instead of a few calls for each line.
"""

from __future__ import annotations

__all__ = ["columns"]

_FIELDS = frozenset(["data", "event", "id"])


def columns(text: str) -> dict[str, list[str]] | None:
    """
    Split blocks into columns, if all of them have the same fields in the same order.

    Each field occurs at most once in a block, and ``data`` is one of them.

    :param text: whole blocks, each with its empty line; lines end with LF.
    :returns: the values of each field, one for each block; ``None`` if the blocks differ in shape.
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
        # A line contains no LF, so a prefix found after an LF is at the beginning of a line.
        values = joined[len(prefix) :].split("\n" + prefix)
        if not joined.startswith(prefix) or len(values) != len(column):
            return None
        found[name] = values
    return found if "data" in found else None
