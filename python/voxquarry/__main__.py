"""The command ``voxquarry``, also ``python -m voxquarry``: those of Rust, and Python's own.

``pip install`` makes a script of ``main``. The binary that cargo builds has the same commands, and
becomes a process of this module for those that are Python's.
"""

from __future__ import annotations

import argparse
import re
import signal
import sys
from collections.abc import Sequence

from . import _bench_command, _infer_command, _report_command, _view_command
from ._errors import DataError, StorageError, UsageError
from ._native import run_command
from ._signals import handled

_OURS = {
    "bench": _bench_command,
    "infer": _infer_command,
    "report": _report_command,
    "view": _view_command,
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a command and returns its exit code: 0, 2 the caller, 3 the data, 4 the environment."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    if not given or not _is_ours(given):
        # While Rust runs, Python would only note an interrupt; one that is ignored stays so.
        is_ignored = signal.getsignal(signal.SIGINT) is signal.SIG_IGN
        with handled(signal.SIG_IGN if is_ignored else signal.SIG_DFL, signal.SIGINT):
            return run_command(["voxquarry", *given])
    parser = argparse.ArgumentParser(prog="voxquarry")
    commands = parser.add_subparsers(dest="command", required=True)
    _OURS[given[0]].add_to(commands)
    chosen = parser.parse_args(_joined(given))
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


def _is_ours(given: Sequence[str]) -> bool:
    """Whether Python has the command; ``bench`` alone measures a store in Rust."""
    if given[0] == "bench":
        return any(argument.partition("=")[0] == "--against" for argument in given)
    return given[0] in _OURS


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
