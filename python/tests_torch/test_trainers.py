"""Lightning and ignite train on a store: on two ranks with gloo, with other patches in each epoch,
and the same after a resume.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import ignite.distributed as idist
import lightning as L
import pytest
import torch
from conftest import Pair
from ignite.engine import Engine, Events
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.strategies import DDPStrategy
from torch import nn

import voxquarry as vq
from voxquarry.lightning import DataModule
from voxquarry.torch import loader

OPTIONS = {"patches_per_subject": 8, "batch_size": 2, "seed": 3}
EPOCHS = 4

pytestmark = [
    pytest.mark.filterwarnings("ignore::UserWarning:lightning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
]


def places(batch: dict[str, Any]) -> list[list[Any]]:
    pairs = zip(batch["subject"], batch["location"].tolist(), strict=True)
    return [[name, *place] for name, place in pairs]


def expected(path: Path, world: int = 1) -> list[list[list[Any]]]:
    """The patches of each epoch on one rank after the other."""
    queues = [
        vq.Queue(vq.open(path), vq.UniformSampler(8), ["ct"], rank=r, world_size=world, **OPTIONS)
        for r in range(world)
    ]
    return [
        [place for queue in queues for batch in queue for place in places(batch)]
        for _ in range(EPOCHS)
    ]


class Net(L.LightningModule):
    """Writes the patches of each epoch to a file of its rank."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.folder, self.layer = folder, nn.Conv3d(1, 2, 3)
        self.read: dict[int, list[Any]] = {}
        self.validated: list[list[Any]] = []

    def training_step(self, batch: dict[str, Any], number: int) -> torch.Tensor:
        self.read.setdefault(self.current_epoch, []).extend(places(batch))
        return self.layer(batch["ct"].float() / 15000).square().mean()

    def validation_step(self, batch: dict[str, Any], number: int) -> None:
        if number == 0:
            self.validated.append([])
        self.validated[-1].extend(places(batch))

    def on_train_end(self) -> None:
        found = {"read": self.read, "validated": self.validated}
        (self.folder / f"rank{self.global_rank}.json").write_text(json.dumps(found))

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), 1e-3)


def fit(
    path: Path, folder: Path, *, devices: int = 1, checkpoint: str | None = None, **options: Any
) -> list[dict[str, Any]]:
    """What each rank read."""
    strategy = DDPStrategy(process_group_backend="gloo", start_method="spawn")
    trainer = L.Trainer(
        accelerator="cpu",
        devices=devices,
        strategy=strategy if devices > 1 else "auto",
        default_root_dir=folder,
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        **options,
    )
    module = DataModule(
        path, vq.UniformSampler(8), ["ct"], val=["b"], eval_sampler=vq.GridSampler(24), **OPTIONS
    )
    trainer.fit(Net(folder), module, ckpt_path=checkpoint)
    return [json.loads((folder / f"rank{rank}.json").read_text()) for rank in range(devices)]


def test_lightning_on_two_ranks(pair: Pair, tmp_path: Path) -> None:
    """Each rank has its own patches, and each epoch others."""
    ranks = fit(pair.path, tmp_path, devices=2, max_epochs=EPOCHS, enable_checkpointing=False)
    for epoch, whole in enumerate(expected(pair.path, 2)):
        found = [place for rank in ranks for place in rank["read"][str(epoch)]]
        assert found == whole
        assert len({tuple(place) for place in found}) == 3 * OPTIONS["patches_per_subject"]
    for rank in ranks:
        assert len(rank["validated"]) == EPOCHS
        assert all(patches == rank["validated"][0] for patches in rank["validated"])


@pytest.mark.parametrize("stop", [{"max_epochs": 2}, {"max_steps": 17}])
def test_lightning_goes_on_after_a_resume(pair: Pair, tmp_path: Path, stop: dict[str, int]) -> None:
    """At the end of an epoch, and within one; it trained on the first epochs' patches again."""
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    steps = stop.get("max_steps")
    checkpoint = ModelCheckpoint(tmp_path / "saved", every_n_train_steps=steps)
    (first,) = fit(pair.path, tmp_path / "a", callbacks=[checkpoint], **stop)
    (saved,) = (tmp_path / "saved").iterdir()
    (second,) = fit(pair.path, tmp_path / "b", max_epochs=EPOCHS, checkpoint=str(saved))
    found = [
        first["read"].get(str(epoch), []) + second["read"].get(str(epoch), [])
        for epoch in range(EPOCHS)
    ]
    assert found == expected(pair.path)


def train_with_ignite(rank: int, path: str, folder: str) -> None:
    """Two epochs, and after a resume two more."""
    queue = vq.Queue(
        vq.open(path),
        vq.UniformSampler(8),
        ["ct"],
        rank=idist.get_rank(),
        world_size=idist.get_world_size(),
        **OPTIONS,
    )
    read: dict[int, list[Any]] = {}
    state = None
    for until in (2, EPOCHS):
        batches = loader(queue)
        model = idist.auto_model(nn.Conv3d(1, 2, 3))
        optimizer = torch.optim.SGD(model.parameters(), 1e-3)

        def step(engine: Engine, batch: dict[str, Any]) -> float:
            optimizer.zero_grad()
            loss = model(batch["ct"].float() / 15000).square().mean()
            loss.backward()
            optimizer.step()
            read.setdefault(engine.state.epoch - 1, []).extend(places(batch))
            return loss.item()

        trainer = Engine(step)

        @trainer.on(Events.EPOCH_STARTED)
        def choose(engine: Engine) -> None:
            batches.sampler.set_epoch(engine.state.epoch - 1)

        if state is not None:
            trainer.load_state_dict(state)
        trainer.run(batches, max_epochs=until, epoch_length=len(batches))
        state = trainer.state_dict()
        # What a new process has.
        queue.set_epoch(0)
    Path(folder, f"rank{idist.get_rank()}.json").write_text(json.dumps(read))


def test_ignite_on_two_ranks_and_after_a_resume(pair: Pair, tmp_path: Path) -> None:
    with idist.Parallel(
        backend="gloo", nproc_per_node=2, init_method=f"file://{tmp_path}/meeting"
    ) as parallel:
        parallel.run(train_with_ignite, str(pair.path), str(tmp_path))
    ranks = [json.loads((tmp_path / f"rank{rank}.json").read_text()) for rank in range(2)]
    for epoch, whole in enumerate(expected(pair.path, 2)):
        assert [place for rank in ranks for place in rank[str(epoch)]] == whole


@pytest.mark.parametrize("workers", [0, 2])
def test_ignite_without_a_handler(pair: Pair, workers: int) -> None:
    """Each epoch has other patches also where nobody chooses it (DALI#4134)."""
    read: dict[int, list[Any]] = {}
    queue = vq.Queue(vq.open(pair.path), vq.UniformSampler(8), ["ct"], **OPTIONS)
    trainer = Engine(
        lambda engine, batch: read.setdefault(engine.state.epoch - 1, []).extend(places(batch))
    )
    trainer.run(loader(queue, num_workers=workers), max_epochs=EPOCHS)
    assert list(read.values()) == expected(pair.path)


def test_parts_and_options_of_a_module(pair: Pair) -> None:
    sampler = vq.UniformSampler(8)
    module = DataModule(pair.path, sampler, ["ct"], train=["a", "c"], **OPTIONS)
    assert {name for batch in module.train_dataloader() for name in batch["subject"]} == {"a", "c"}
    assert module.val_dataloader() == []
    with pytest.raises(vq.UsageError, match="no split 'train'; the store has: none"):
        DataModule(pair.path, sampler, train="train")
    with pytest.raises(vq.UsageError, match="the trainer has rank and world size"):
        DataModule(pair.path, sampler, rank=1)
