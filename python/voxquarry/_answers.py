"""What a model answers: predictions by name, their shapes and their types."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from ._errors import UsageError
from ._types import Head

# More than a segmentation has: integers of more values are numbers.
_MOST_CLASSES = 128


def named(predictions: Any) -> dict[Head | None, Any]:
    """Predictions by name, or by number; a single one is named ``None``."""
    if isinstance(predictions, Mapping):
        return {str(name): array(prediction) for name, prediction in predictions.items()}
    if isinstance(predictions, list | tuple) and all(hasattr(p, "shape") for p in predictions):
        if not predictions:
            raise UsageError("the model answered with an empty list: expected predictions")
        return {number: array(prediction) for number, prediction in enumerate(predictions)}
    return {None: array(predictions)}


def array(prediction: Any) -> Any:
    return prediction if hasattr(prediction, "shape") else np.asarray(prediction)


def shape_of(prediction: Any, count: int) -> tuple[int, ...]:
    """The shape of the predictions of ``count`` patches."""
    shape = tuple(prediction.shape)
    if len(shape) not in (4, 5) or shape[0] != count:
        expected = f"({count}, k, z, y, x) or ({count}, z, y, x)"
        raise UsageError(
            f"the model answered with shape {shape} for {count} patches: expected {expected}"
        )
    return shape


def whole_dtype(prediction: Any) -> str | None:
    """The name of the dtype of integers or booleans, as a volume has it; None for floats."""
    name = str(prediction.dtype).removeprefix("torch.")
    if name == "bool":
        return "uint8"
    return name if name.startswith(("int", "uint")) else None


def is_number(answer: Any, patches: np.ndarray) -> bool:
    """Whether integers are numbers, as of a filter, and no classes.

    They are if they have the type of the patches, and are the patches themselves or have more
    values than a segmentation has classes.
    """
    values = np.asarray(answer.detach().cpu() if hasattr(answer, "detach") else answer)
    if values.dtype != patches.dtype:
        return False
    if np.array_equal(values.ravel(), patches.ravel()):
        return True
    return values.itemsize > 1 and len(np.unique(values)) > _MOST_CLASSES


def head(name: Head | None) -> str:
    return "the answer" if name is None else f"the answer {name!r}"


def heads(answers: Mapping[Head | None, Any]) -> str:
    if None in answers:
        return "one prediction"
    return f"the predictions {list(answers)}"


def of(value: Any, name: Head | None) -> Any:
    """The value of an option for a prediction."""
    return value[name] if isinstance(value, Mapping) else value
