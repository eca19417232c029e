"""
Runs the command ``txsse`` as ``python -m txsse``.
"""

import sys

from txsse.cli import main

if __name__ == "__main__":
    sys.exit(main())
