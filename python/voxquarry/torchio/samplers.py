"""TorchIO's samplers, which cut patches from a store without loading its volumes."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from functools import partial
from itertools import count, islice

import numpy as np
import torch
import torchio as tio
from torchio.utils import to_tuple

from .. import LabelSampler as StoreLabelSampler
from .. import UsageError
from .. import WeightedSampler as StoreWeightedSampler
from .._values import is_scaled, real_range
from .spatial import cut, pad
from .subjects import Box, box_of

Place = tuple[int, int, int]

# How many places of a store are drawn at a time; only the last of them may be for nothing.
_DRAWN = 8


class PatchSampler(tio.data.PatchSampler):
    """Base of all samplers: sizes as wide as Python's integers, and crops that read only the patch.

    TorchIO keeps sizes in 16 bits, which wrap round on axes over 65,535.
    """

    def __init__(self, patch_size: int | Sequence[int]) -> None:
        tio.data.PatchSampler.__init__(self, patch_size)
        self.patch_size = np.array(to_tuple(patch_size, length=3), dtype=np.int64)

    def crop(
        self, subject: tio.Subject, index_ini: Iterable[int], patch_size: Iterable[int]
    ) -> tio.Subject:
        """The patch at ``index_ini`` with its location; it draws one random number, as TorchIO's
        does, so that the streams stay in step.
        """
        torch.rand(1)
        return cut(subject, index_ini, patch_size)


class RandomSampler(PatchSampler):
    """Base of the random samplers: places are drawn first, then patches are cut there."""

    def places(self, subject: tio.Subject) -> Iterator[Place]:
        """First voxels ``(i, j, k)`` of patches, without end."""
        raise NotImplementedError

    def planned(self, subject: tio.Subject, count: int) -> list[Callable[[], tio.Subject]]:
        """Functions that each cut one patch, on any thread; all random numbers are drawn here."""
        self._check(subject)
        plan: list[Callable[[], tio.Subject]] = []
        for place in islice(self.places(subject), count):
            torch.rand(1)
            plan.append(partial(cut, subject, place, self.patch_size))
        return plan

    def _check(self, subject: tio.Subject) -> None:
        """Raises what TorchIO's samplers raise when they are called."""
        # Making the generator checks; nothing is drawn before its first patch.
        self(subject)

    def _generate_patches(
        self, subject: tio.Subject, num_patches: int | None = None
    ) -> Generator[tio.Subject]:
        for place in islice(self.places(subject), num_patches):
            yield self.extract_patch(subject, place)


class UniformSampler(RandomSampler, tio.data.UniformSampler):
    """``torchio.UniformSampler``: every place of a patch in the volume is equally likely."""

    def places(self, subject: tio.Subject) -> Iterator[Place]:
        spans = (np.asarray(subject.spatial_shape) - self.patch_size + 1).tolist()
        while True:
            i, j, k = (int(torch.randint(span, (1,))) for span in spans)
            yield i, j, k


class WeightedSampler(RandomSampler, tio.data.WeightedSampler):
    """``torchio.WeightedSampler``: centres are drawn by the values of an image of the subject.

    A map in a store is not loaded: sums of its chunks choose a chunk, and only that one is decoded.
    The distribution is TorchIO's, but a seed of torch gives other draws. Draws from maps in memory
    are the same as TorchIO's.
    """

    def __init__(self, patch_size: int | Sequence[int], probability_map: str | None) -> None:
        super().__init__(patch_size)
        self.probability_map_name = probability_map
        self.cdf = None

    def missing(self, subjects: Sequence[tio.Subject]) -> dict[int, str]:
        """The numbers of the subjects of a store in which no patch can be drawn, each with the
        reason; of others nothing is known before they are loaded.
        """
        found: dict[int, str] = {}
        boxes: dict[tuple[int, str], list[tuple[int, Box]]] = {}
        for number, subject in enumerate(subjects):
            try:
                image = self.get_probability_map_image(subject)
            except (KeyError, RuntimeError):
                name = self.probability_map_name
                found[number] = "no label map" if name is None else f"no image {name!r}"
                continue
            box = box_of(image)
            # TorchIO's own error follows where a patch is larger than an image.
            if box is not None and box.is_whole and (self.patch_size <= box.shape).all():
                key = (id(box.volume.subject.dataset), box.volume.name)
                boxes.setdefault(key, []).append((number, box))
        for alike in boxes.values():
            usable = [
                (number, box.volume.subject, sampler)
                for number, box in alike
                if (sampler := self._store_sampler(box)) is not None
            ]
            names = {number: subject.name for number, subject, _ in usable}
            for _, subject, sampler in usable[:1]:
                reasons = sampler.missing(subject.dataset, sorted(set(names.values())))
                found.update({n: reasons[name] for n, name in names.items() if name in reasons})
        return dict(sorted(found.items()))

    def places(self, subject: tio.Subject) -> Iterator[Place]:
        box = box_of(self.get_probability_map_image(subject))
        sampler = None if box is None or not box.is_whole else self._store_sampler(box)
        if box is None or sampler is None:
            return self._places_in_memory(subject)
        return self._places_in_store(subject, box, sampler)

    def _store_sampler(self, box: Box) -> StoreWeightedSampler | StoreLabelSampler | None:
        """The sampler that draws from the volume in the store; None if it has to be loaded."""
        values = real_range(box.volume)
        if values is not None and values[0] < 0:
            raise ValueError(
                f'Negative values found in probability map "{self.probability_map_name}"'
            )
        return StoreWeightedSampler(tuple(self.patch_size[::-1].tolist()), box.volume.name)

    def _places_in_store(
        self, subject: tio.Subject, box: Box, sampler: StoreWeightedSampler | StoreLabelSampler
    ) -> Iterator[Place]:
        seed = int(torch.randint(2**63 - 1, (1,)))
        for first in count(0, _DRAWN):
            try:
                starts = sampler.locations(box.volume.subject, _DRAWN, seed=seed, first=first)
            except UsageError as error:
                half = tuple((self.patch_size // 2).tolist())
                path = self.get_probability_map_image(subject).path
                raise RuntimeError(
                    f"Empty probability map found: {path}: {error}. Voxels with positive"
                    " probability might be near the image border: try padding with half the patch"
                    f" size, torchio.Pad({half})"
                ) from error
            for k, j, i in starts.tolist():
                yield i, j, k

    def _places_in_memory(self, subject: tio.Subject) -> Iterator[Place]:
        weights = self.process_probability_map(self.get_probability_map(subject), subject)
        cdf = self.get_cumulative_distribution_function(weights)
        while True:
            i, j, k = self.get_random_index_ini(weights, cdf).tolist()
            yield i, j, k

    def extract_patch(
        self,
        subject: tio.Subject,
        index_ini: Iterable[int],
        cdf: np.ndarray | None = None,
    ) -> tio.Subject:
        """The patch at ``index_ini``; or, as in TorchIO, one drawn from a map and its cumulative
        distribution.

        Raises:
            TypeError: A distribution, and no map as an array.
        """
        if cdf is not None:
            if not isinstance(index_ini, np.ndarray):
                raise TypeError(
                    f"probability map {index_ini!r}: expected a NumPy array beside its distribution"
                )
            index_ini = self.get_random_index_ini(index_ini, cdf)
        return self.crop(subject, index_ini, self.patch_size)


class LabelSampler(WeightedSampler, tio.data.LabelSampler):
    """``torchio.LabelSampler``: centres lie on voxels of chosen labels, each class as often as
    requested.

    A label map in a store is not loaded: its label counts choose a chunk, and only that one is
    decoded.
    """

    def __init__(
        self,
        patch_size: int | Sequence[int],
        label_name: str | None = None,
        label_probabilities: Mapping[int, float] | None = None,
    ) -> None:
        super().__init__(patch_size, label_name)
        self.label_probabilities_dict = label_probabilities

    def _store_sampler(self, box: Box) -> StoreLabelSampler | None:
        volume = box.volume
        if volume.dtype.kind == "f" or is_scaled(volume):
            return None
        size = tuple(self.patch_size[::-1].tolist())
        if self.label_probabilities_dict is None:
            # Of several channels TorchIO takes the first.
            return StoreLabelSampler(size, volume.name, channel=0)
        return StoreLabelSampler(size, volume.name, dict(self.label_probabilities_dict))


class GridSampler(PatchSampler, tio.data.GridSampler):
    """``torchio.GridSampler``: patches across a whole volume.

    Iterating over a padded sampler does not pad its subject again, as it does in TorchIO. Paddings
    by number, ``"edge"``, ``"reflect"``, ``"minimum"`` and ``"maximum"`` read only patches; other
    modes load the images of the subject.
    """

    def __init__(
        self,
        subject: tio.Subject,
        patch_size: int | Sequence[int],
        patch_overlap: int | Sequence[int] = (0, 0, 0),
        padding_mode: str | float | None = None,
    ) -> None:
        super().__init__(patch_size)
        self.patch_overlap = np.array(to_tuple(patch_overlap, length=3))
        self.padding_mode = padding_mode
        self.subject = self._pad(subject)
        self.locations = self._compute_locations(self.subject)

    def _pad(self, subject: tio.Subject) -> tio.Subject:
        if self.padding_mode is None or subject is self.__dict__.get("subject"):
            return subject
        return pad(subject, self.patch_overlap // 2, self.padding_mode)
