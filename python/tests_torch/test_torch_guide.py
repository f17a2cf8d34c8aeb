"""The guides' examples run as they stand."""

from __future__ import annotations

from collections.abc import Callable
from types import CodeType

import pytest


def run(blocks: list[CodeType], count: int) -> dict[str, object]:
    assert len(blocks) == count
    names: dict[str, object] = {}
    for block in blocks:
        exec(block, names)
    return names


def test_pytorch(examples: Callable[[str], list[CodeType]]) -> None:
    names = run(examples("pytorch.md"), 4)
    assert names["images"].shape == (4, 1, 16, 16, 16)
    assert names["state"]["epoch"] == 2
    assert names["queue"].state_dict()["weights"][0]["subjects"].keys() == names["losses"].keys()
    assert names["one_of_each"].patches == sum(names["cells"].counts(names["ds"]).values())


def test_torchio(examples: Callable[[str], list[CodeType]]) -> None:
    names = run(examples("torchio.md"), 1)
    assert names["images"].shape == (4, 1, 16, 16, 16)
    assert names["volume"].shape[1:] == names["subjects"][0].spatial_shape


@pytest.mark.filterwarnings("ignore")
def test_lightning(examples: Callable[[str], list[CodeType]]) -> None:
    names = run(examples("lightning.md"), 2)
    assert names["data"].trainer.current_epoch == 2
    assert names["batches"].queue.epoch == 1


def test_monai(examples: Callable[[str], list[CodeType]]) -> None:
    names = run(examples("monai.md"), 2)
    assert names["batch"]["ct"].shape == (4, 1, 16, 16, 16)
    assert names["item"]["image"].shape == (1, 41, 36, 45)
