"""``python -m voxquarry.nnunet``: converts preprocessed folders, and says where trainers are."""

from __future__ import annotations

import argparse
import sys

from .. import DataError, Error, UsageError
from . import convert, trainers_path


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m voxquarry.nnunet", description=__doc__)
    commands = parser.add_subparsers(required=True, dest="command")
    conversion = commands.add_parser("convert", help="copy a preprocessed folder into a store")
    conversion.add_argument(
        "folder", help="nnUNet_preprocessed/Dataset001_Name/nnUNetPlans_3d_fullres"
    )
    conversion.add_argument("out", help="the new nnUNet_preprocessed")
    conversion.add_argument("--overwrite", action="store_true", help="convert all cases again")
    commands.add_parser("trainers", help="print the folder for nnUNet_extTrainer")
    chosen = parser.parse_args(arguments)
    if chosen.command == "trainers":
        print(trainers_path())
        return 0
    try:
        print(convert(chosen.folder, chosen.out, overwrite=chosen.overwrite))
    except Error as error:
        print(f"error: {error}", file=sys.stderr)
        return 2 if isinstance(error, UsageError) else 3 if isinstance(error, DataError) else 4
    return 0


if __name__ == "__main__":
    sys.exit(main())
