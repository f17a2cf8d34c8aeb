"""Inference at another spacing or orientation, whose results come back to the volume's own grid.

Scores are blended at the model's spacing into a scratch store. Then the volume's own grid is read
from it box by box, and each box becomes what ``finish`` says. No more than a few boxes are in
memory, whatever the number of classes.
"""

from __future__ import annotations

import hashlib
import os
import pickle
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path as FilePath
from typing import Any

import numpy as np

from . import _native
from ._answers import of
from ._errors import UsageError
from ._progress import steps
from ._regions import Region
from ._resampling import Order, Resampling, index_matrix
from ._types import Head
from ._values import is_scaled

# Voxels of the model's grid beyond a patch that its answers reach when they are resampled.
_REACH = 2
_OWN = ("model", "progress", "threads", "memory_bytes", "nonfinite", "batch_size", "outside")


class AtReader:
    """Reads patches of a volume at another spacing, as a run reads them."""

    def __init__(self, view: _native.ResampledVolume) -> None:
        self.view = view
        self.shape, self.dtype = view.shape, view.dtype
        self.content_id, self.is_remote = view.volume.content_id, view.is_remote

    def __repr__(self) -> str:
        return f"{self.view!r}"

    def read_ahead(self, starts: Any, size: Any, channels: Sequence[int] | None = None) -> None:
        """Begins to read chunks, those of all channels."""
        self.view.read_ahead(starts, size)

    def read_batch(
        self,
        starts: Any,
        size: Any,
        out: Any,
        padding: Any = None,
        channels: Sequence[int] | None = None,
    ) -> Any:
        """Reads patches into ``out``."""
        if channels is None:
            return self.view.read_batch(starts, size, out, padding)
        out[...] = self.view.read_batch(starts, size, padding=padding)[:, channels]
        return out


class AtSpacing:
    """An inference on ``volume.at(spacing, orientation)``."""

    def __init__(
        self,
        volume: _native.Volume | _native.ScaledVolume,
        spacing: float | Sequence[float] | None,
        orientation: str | None,
        back_order: Order | None,
        scaled: bool,
    ) -> None:
        self._volume = volume.volume if isinstance(volume, _native.ScaledVolume) else volume
        if not isinstance(self._volume, _native.Volume):
            raise UsageError("spacing and orientation: expected a stored volume")
        if not scaled and is_scaled(self._volume):
            raise UsageError("scaled=False: a volume at another spacing gives real values")
        if back_order not in (None, 0, 1, 3):
            raise UsageError(f"back_order {back_order!r}: expected None, 0, 1 or 3")
        if spacing is not None:
            if np.shape(spacing) not in ((), (3,)):
                raise UsageError(f"spacing {spacing!r}: expected a number, or three (z, y, x)")
            spacing = np.broadcast_to(np.asarray(spacing, dtype=float), 3).tolist()
        self._view = self._volume.at(spacing, orientation)
        self._order = back_order

    def __call__(
        self,
        infer: Callable[..., Any],
        given: dict[str, Any],
        *,
        out: Any,
        finish: Any,
        dtype: Any,
        mask: Any,
        resume: bool | str,
    ) -> Any:
        """Runs ``infer`` with what is ``given``, and brings its results back."""
        finishes = list(finish.values()) if isinstance(finish, Mapping) else [finish]
        if "softmax+argmax" in finishes:
            raise UsageError(
                'finish "softmax+argmax" at another spacing: let the model answer with'
                ' probabilities, and choose "argmax"'
            )
        region = Region(mask, self._volume)
        if mask is not None and region.voxels is None:
            raise UsageError("mask: at another spacing, expected a volume, an array or a box")
        user_note = resume if isinstance(resume, str) else ""
        note = self._note(given, user_note, region)
        with _scratch(out, note, starts_again=resume is False) as scratch:
            blended = scratch.blended(out)
            if blended is None:
                votes = given["merge"] == "vote"
                blended = infer(
                    volume=AtReader(self._view),
                    out=scratch.path,
                    finish="argmax" if votes and finish == "argmax" else "none",
                    mask=self._wants(region) if mask is not None else None,
                    resume=note,
                    **given | {"outside": 0.0},
                )
                scratch.keep(note)

            def back(name: Head | None, volume: _native.Volume) -> Any:
                own_out = _of_out(out, name)
                own_finish, own_dtype = of(finish, name), of(dtype, name)
                return self._back(volume, own_finish, own_dtype, region, own_out, note, given)

            if isinstance(blended, Mapping):
                result: Any = {name: back(name, volume) for name, volume in blended.items()}
            elif isinstance(blended, list):
                result = [back(name, volume) for name, volume in enumerate(blended)]
            else:
                result = back(None, blended)
            scratch.is_done = True
        return result

    def _back(
        self,
        blended: _native.Volume,
        finish: Any,
        dtype: Any,
        region: Region,
        out: Any,
        note: str,
        given: dict[str, Any],
    ) -> Any:
        """One result on the volume's own grid."""
        is_whole = blended.dtype.kind in "iu"
        # The scratch store knows the voxels of the model's grid, not where that lies.
        affine = self._view.affine @ blended.affine
        order: Order = (0 if is_whole else 1) if self._order is None else self._order
        if is_whole:
            finish = "none" if finish == "argmax" else finish
            dtype = blended.dtype if dtype is None and finish == "none" else dtype
        progress = given["progress"]
        with Resampling(
            blended,
            self._volume,
            order,
            "edge",
            finish,
            affine=affine,
            read_as=blended.dtype if is_whole else np.dtype(np.float32),
            out=out,
            dtype=dtype,
            mask=region.voxels,
            outside=given["outside"],
            memory_bytes=given["memory_bytes"],
            threads=given["threads"],
            resume=f"{note}|{order}" if out is not None else False,
        ) as work:
            return work(steps(False if callable(progress) else progress, "box"))

    def _note(self, given: dict[str, Any], user_note: str, region: Region) -> str:
        """Names everything that decides the scores."""
        decides = {name: value for name, value in given.items() if name not in _OWN}
        decides["view"] = (self._view.shape, self._view.affine.tolist())
        decides["mask"] = None if region.voxels is None else region.voxels.tobytes()
        digest = hashlib.sha256(pickle.dumps(sorted(decides.items(), key=lambda item: item[0])))
        return f"{user_note}|{self._volume!r}|{self._volume.content_id}|{digest.hexdigest()}"

    def _wants(self, region: Region) -> Callable[[tuple[int, ...]], bool]:
        """Whether a patch at the model's spacing may count for a voxel of the mask."""
        matrix = index_matrix(self._view.affine, self._volume.affine)
        voxels = region.voxels
        assert voxels is not None

        def wants(box: tuple[int, ...]) -> bool:
            corners = np.array([box[:3], box[3:]], dtype=float)
            corners += [[-_REACH - 0.5], [_REACH - 0.5]]
            ends = corners @ matrix[:3, :3].T + matrix[:3, 3]
            low, high = np.floor(ends.min(0)).astype(int), np.ceil(ends.max(0)).astype(int) + 1
            inside = tuple(slice(max(a, 0), max(b, 0)) for a, b in zip(low, high, strict=True))
            return bool(voxels[inside].any())

        return wants


class _Scratch:
    """Where blended scores wait: one folder beside each result, or one in the temporary folder."""

    def __init__(self, folder: Callable[[Head | None], FilePath], is_kept: bool) -> None:
        self._folder, self._is_kept = folder, is_kept
        self._used: dict[Head | None, FilePath] = {}
        self.is_done = False

    def path(self, name: Head | None) -> str:
        """Where the scores of a head are written."""
        folder = self._used[name] = self._folder(name)
        folder.mkdir(parents=True, exist_ok=True)
        return str(folder / "scores.zarr" / "scores" / "blended")

    def blended(self, out: Any) -> Any:
        """The scores of an earlier run with the same arguments, if they are complete."""
        if not self._is_kept:
            return None
        names = _names_of(out)
        if not all((self._folder(name) / "made-by.txt").exists() for name in names):
            return None
        volumes = {name: _open(self.path(name)) for name in names}
        if list(volumes) == [None]:
            return volumes[None]
        return volumes if isinstance(out, Mapping) else list(volumes.values())

    def keep(self, note: str) -> None:
        """Notes that the scores are complete."""
        if self._is_kept:
            for folder in self._used.values():
                (folder / "made-by.txt").write_text(note)

    def remove(self) -> None:
        """Removes the scores."""
        for folder in self._used.values():
            shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _scratch(out: Any, note: str, *, starts_again: bool) -> Iterator[_Scratch]:
    """Scratch folders for results at ``out``; those of unfinished work stay."""
    if out is None:
        with tempfile.TemporaryDirectory(prefix="voxquarry-") as folder:
            yield _Scratch(lambda name: FilePath(folder) / str(name), is_kept=False)
        return

    def beside(name: Head | None) -> FilePath:
        path = FilePath(os.fspath(_of_out(out, name)))
        store = path.parent.parent
        return store.parent / f".{store.name}.{path.parent.name}.{path.name}.scores"

    scratch = _Scratch(beside, is_kept=True)
    for name in _names_of(out):
        made = beside(name) / "made-by.txt"
        is_unnamed = (beside(name) / "scores.zarr" / "scores").exists() and not made.exists()
        if starts_again or is_unnamed:
            shutil.rmtree(beside(name), ignore_errors=True)
        elif made.exists() and made.read_text() != note:
            raise UsageError(
                f"{beside(name)} holds scores of unfinished work that was begun with other"
                " arguments: repeat these, or start again with resume=False"
            )
    yield scratch
    if scratch.is_done:
        scratch.remove()


def _names_of(out: Any) -> list[Head | None]:
    if isinstance(out, str | os.PathLike):
        return [None]
    return list(out) if isinstance(out, Mapping) else list(range(len(out)))


def _of_out(out: Any, name: Head | None) -> Any:
    """The path in ``out`` for a head."""
    if out is None:
        return None
    if isinstance(out, str | os.PathLike):
        if name is not None:
            raise UsageError(f"out {out!r}: several predictions need as many paths")
        return out
    if name is None or (name not in out if isinstance(out, Mapping) else int(name) >= len(out)):
        raise UsageError(f"out {out!r}: expected a path for each prediction")
    return out[name]


def _open(path: str) -> _native.Volume:
    store, subject, volume = FilePath(path).parents[1], FilePath(path).parent.name, path
    return _native.open(str(store))[subject][FilePath(volume).name]
