"""nnU-Net's rule for Blosc2 chunks and blocks, run from the released wheel instead of a copy.

Only the functions that implement it are executed, because the rest of nnU-Net needs torch.
"""

import ast
import math
import os
import subprocess
import sys
import zipfile
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Optional, Union

import blosc2
import numpy as np

REQUIREMENT = "nnunetv2==2.8.*"
MODULE = "nnunetv2/training/dataloading/nnunet_dataset.py"


@cache
def rules(data):
    """`(version, comp_blosc2_params, select_filter)` of the wheel, downloaded into `data` once."""
    folder = Path(data) / "nnunetv2"
    if not any(folder.glob("nnunetv2-*.whl")):
        command = [
            sys.executable,
            "-m",
            "pip",
            "download",
            "--quiet",
            "--no-deps",
            REQUIREMENT,
            "--dest",
            str(folder),
        ]
        subprocess.run(command, check=True)
    wheel = next(folder.glob("nnunetv2-*.whl"))
    with zipfile.ZipFile(wheel) as archive:
        tree = ast.parse(archive.read(MODULE))
    functions = {node.name: node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}
    wanted = [functions["comp_blosc2_params"], functions["_select_filter"]]
    for function in wanted:
        function.decorator_list = []
    names = {"blosc2": blosc2, "np": np, "math": math, "os": os}
    names |= {
        "List": list,
        "Optional": Optional,
        "Sequence": Sequence,
        "Tuple": tuple,
        "Union": Union,
    }
    exec(compile(ast.Module(wanted, type_ignores=[]), MODULE, "exec"), names)
    return wheel.name.split("-")[1], names["comp_blosc2_params"], names["_select_filter"]
