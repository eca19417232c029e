"""
All scripts by their names, which are also the ids of the parametrised tests.
"""

from __future__ import annotations

from tests.peers.reply_scripts import REPLY_SCRIPTS
from tests.peers.script import Script
from tests.peers.stream_scripts import STREAM_SCRIPTS

__all__ = ["SCRIPTS"]

SCRIPTS: dict[str, Script] = {**STREAM_SCRIPTS, **REPLY_SCRIPTS}
