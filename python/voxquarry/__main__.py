"""The commands that are Python's: ``python -m voxquarry view …``; ``voxquarry view`` runs it."""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Sequence

from . import _finalize_command, _infer_command, _report_command, _view_command
from ._errors import DataError, StorageError, UsageError


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a command and returns its exit code: 0, 2 the caller, 3 the data, 4 the environment."""
    parser = argparse.ArgumentParser(prog="voxquarry")
    commands = parser.add_subparsers(dest="command", required=True)
    _infer_command.add_to(commands)
    _finalize_command.add_to(commands)
    _view_command.add_to(commands)
    _report_command.add_to(commands)
    chosen = parser.parse_args(_joined(sys.argv[1:] if arguments is None else arguments))
    try:
        chosen.run(chosen)
    except UsageError as error:
        return _failed(error, 2)
    except DataError as error:
        return _failed(error, 3)
    except (StorageError, OSError, MemoryError, ImportError) as error:
        return _failed(error, 4)
    except KeyboardInterrupt:
        return _failed("interrupted: the same command continues", 4)
    return 0


def _joined(arguments: Sequence[str]) -> list[str]:
    """Options with the values that begin with a minus, as ``--window=-160,240``; argparse would
    take such a value for an option.
    """
    joined: list[str] = []
    for argument in arguments:
        last = joined[-1] if joined else ""
        if re.match(r"-[\d.]", argument) and re.fullmatch(r"--[a-z-]+", last):
            joined[-1] = f"{last}={argument}"
        else:
            joined.append(argument)
    return joined


def _failed(error: object, code: int) -> int:
    print(f"error: {error}", file=sys.stderr)
    return code


if __name__ == "__main__":
    sys.exit(main())
