"""`python3 tests/labcluster COMMAND` and `python -m labcluster COMMAND`."""

import sys
from pathlib import Path

if not __package__:  # started by the directory's name
    sys.path[0] = str(Path(__file__).resolve().parent.parent)


def main() -> None:
    from labcluster.commands import main

    main()


if __name__ == "__main__":
    main()
