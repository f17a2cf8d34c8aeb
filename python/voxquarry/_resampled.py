"""Subjects and data sets at another spacing or orientation."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Generic, TypeVar

from ._native import Dataset, ResampledVolume, Subject, Volume

Item = TypeVar("Item")


class _View(Mapping[str, Item], Generic[Item]):
    """The items of a mapping, each at another spacing or orientation."""

    _of: Mapping[str, Any]

    def __init__(
        self,
        of: Mapping[str, Any],
        spacing: float | Sequence[float] | None,
        orientation: str | None,
    ) -> None:
        self._of, self._spacing, self._orientation = of, spacing, orientation

    def __getitem__(self, name: str, /) -> Item:
        item: Item = self._of[name].at(self._spacing, self._orientation)
        return item

    def __contains__(self, name: object, /) -> bool:
        return name in self._of

    def __iter__(self) -> Iterator[str]:
        return iter(self._of)

    def __len__(self) -> int:
        return len(self._of)

    def __repr__(self) -> str:
        asked = f"spacing={self._spacing!r}, orientation={self._orientation!r}"
        return f"<voxquarry.{type(self).__name__} of {self._of!r}: {asked}>"


class ResampledSubject(_View[ResampledVolume]):
    """A subject whose volumes have another spacing or orientation: a mapping from names to
    ``ResampledVolume``; ``Subject.at`` makes it.
    """

    def __init__(
        self,
        subject: Subject,
        spacing: float | Sequence[float] | None = None,
        orientation: str | None = None,
    ) -> None:
        super().__init__(subject, spacing, orientation)
        self.name = subject.name


class ResampledDataset(_View[ResampledSubject]):
    """A data set whose subjects have another spacing or orientation: a mapping from names to
    ``ResampledSubject``; ``Dataset.at`` makes it.
    """

    def __init__(
        self,
        dataset: Dataset,
        spacing: float | Sequence[float] | None = None,
        orientation: str | None = None,
    ) -> None:
        super().__init__(dataset, spacing, orientation)


def at(volume: Volume, spacing: Sequence[float] | None, orientation: str | None) -> ResampledVolume:
    """The volume at another spacing or orientation, for pickle."""
    return volume.at(spacing, orientation)
