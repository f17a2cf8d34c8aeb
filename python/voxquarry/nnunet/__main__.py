"""``python -m voxquarry.nnunet``: converts preprocessed folders, names trainers, predicts."""

from __future__ import annotations

import argparse
import sys

from .. import DataError, Error, UsageError
from .._paths import path_of
from . import convert, predict, trainers_path


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
    _add_prediction(commands.add_parser("predict", help="label the images of a store"))
    chosen = parser.parse_args(arguments)
    if chosen.command == "trainers":
        print(trainers_path())
        return 0
    try:
        if chosen.command == "convert":
            print(convert(chosen.folder, chosen.out, overwrite=chosen.overwrite))
        else:
            _predict(chosen)
    except Error as error:
        print(f"error: {error}", file=sys.stderr)
        return 2 if isinstance(error, UsageError) else 3 if isinstance(error, DataError) else 4
    return 0


def _add_prediction(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", help="the folder of a trained model, with plans.json and fold_0")
    parser.add_argument("source", help="STORE or STORE/SUBJECT")
    parser.add_argument("--out", required=True, help="the store of the results")
    parser.add_argument("--name", default="prediction", help="the results' name (prediction)")
    parser.add_argument("--volumes", nargs="+", help="the volume of each channel")
    parser.add_argument("--folds", nargs="+", help="folds to average (those that are there)")
    parser.add_argument("--checkpoint", default="checkpoint_final.pth")
    parser.add_argument("--step", type=float, default=0.5, help="distance of patches (0.5)")
    parser.add_argument("--no-mirror", action="store_true", help="no mirrored patches")
    parser.add_argument("--device", help="cuda where there is one, or cpu")
    parser.add_argument("--batch-size", type=int, default=1)
    parser.add_argument("--quiet", action="store_true", help="no progress")


def _predict(chosen: argparse.Namespace) -> None:
    given = vars(chosen)
    options = {key: given[key] for key in _OPTIONS}
    volumes = predict(
        chosen.model,
        chosen.source,
        chosen.out,
        mirror=not chosen.no_mirror,
        progress=False if chosen.quiet else None,
        **options,
    )
    for volume in volumes:
        print(path_of(volume))


_OPTIONS = ("name", "volumes", "folds", "checkpoint", "step", "device", "batch_size")

if __name__ == "__main__":
    sys.exit(main())
