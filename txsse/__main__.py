"""
``python -m txsse`` is ``txsse``.
"""

import sys

from txsse.cli import main

if __name__ == "__main__":
    sys.exit(main())
