"""The subjects of the tests with torch."""

import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

_spec = spec_from_file_location(
    "shared_fixtures", Path(__file__).parents[1] / "tests_torch" / "conftest.py"
)
_shared = sys.modules["shared_fixtures"] = module_from_spec(_spec)
_spec.loader.exec_module(_shared)
AFFINE, Pair, pair = _shared.AFFINE, _shared.Pair, _shared.pair
