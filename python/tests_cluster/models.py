"""A model that jobs import by its name."""

import time

import numpy as np

#: Seconds for each batch, so that a job is there long enough to be killed.
PAUSE = 0.02


def slow(patches: np.ndarray) -> np.ndarray:
    """Answers after a pause."""
    time.sleep(PAUSE)
    return patches.astype(np.float32)
