"""Types and documentation of the compiled module.

Documentation is the module's own: ``python python/tests/stubs.py`` copies it from there. Tests
compare names, parameters and documentation with the module.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from types import EllipsisType
from typing import Any, Literal, SupportsIndex, TypeAlias, TypedDict, final

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from ._arrays import Voxels
from ._ingest import IngestReport
from ._picture import Picture
from ._resampled import ResampledDataset, ResampledSubject
from ._types import (
    Access,
    Border,
    Bytes,
    Channels,
    Codec,
    Eviction,
    Finish,
    IngestChoices,
    Kind,
    Margin,
    Merge,
    NonFinite,
    Normalize,
    OnFailure,
    OnMissing,
    Padding,
    Path,
    Placement,
    Range,
    Ranges,
    Shuffle,
    Size,
    Verify,
    VerifyReport,
    VolumeProgress,
    Window,
)

__version__: str

_Start: TypeAlias = ArrayLike | Sequence[SupportsIndex]
_RandomSampler: TypeAlias = (
    UniformSampler | WeightedSampler | LabelSampler | ObjectSampler | ConstrainedSampler
)
_Index: TypeAlias = SupportsIndex | slice | EllipsisType

class _Statistics(TypedDict):
    voxels: int
    non_finite: int
    min: float | None
    max: float | None
    mean: float | None
    std: float | None

class _QueueStats(TypedDict):
    patches: int
    batches: int
    voxel_bytes: int
    seconds: float
    patches_per_second: float
    stall_seconds: float
    decode_seconds: float
    threads: int
    cache_hits: int
    chunks_decoded: int
    bytes_read: int

@final
class Dataset(Mapping[str, Subject]):
    """A store, opened for reading: a mapping from names to subjects.

    A pickled dataset holds its path and the options of ``open``, and another process opens it anew,
    with a cache of its own. Subjects and volumes are pickled as names in their dataset; those that
    are pickled together share its cache.
    """
    @property
    def path(self) -> str:
        """The store's folder, absolute, or its URL without a token; of a dataset of open volumes, the
        place of the first.
        """
    @property
    def splits(self) -> dict[str, list[str]]:
        """The names of the subjects in each split, such as ``"train"``; reads the document of every
        subject.
        """
    @property
    def report(self) -> IngestReport | None:
        """What :func:`voxquarry.ingest` did, if it returned this dataset; otherwise ``None``."""
    def _set_report(self, report: IngestReport) -> None: ...
    @property
    def cached_bytes(self) -> int:
        """Bytes of decoded chunks that the cache holds now."""
    def at(
        self, spacing: float | Sequence[float] | None = None, orientation: str | None = None
    ) -> ResampledDataset:
        """The data set at another spacing and in another orientation: a mapping to its subjects, each
        as ``Volume.at`` reads it.
        """
    def __len__(self) -> int: ...
    def __iter__(self) -> Iterator[str]: ...
    def __contains__(self, name: object, /) -> bool: ...
    def __getitem__(self, name: str, /) -> Subject: ...

@final
class Subject(Mapping[str, Volume]):
    """Named volumes on one grid: a mapping from names to volumes."""
    @property
    def name(self) -> str:
        """Its name in the dataset."""
    @property
    def dataset(self) -> Dataset:
        """The store that it belongs to."""
    @property
    def size(self) -> tuple[int, int, int]:
        """Extents in ``(z, y, x)`` that all its volumes share."""
    def at(
        self, spacing: float | Sequence[float] | None = None, orientation: str | None = None
    ) -> ResampledSubject:
        """The subject at another spacing and in another orientation: a mapping to its volumes, each as
        ``Volume.at`` reads it.
        """
    def __len__(self) -> int: ...
    def __iter__(self) -> Iterator[str]: ...
    def __contains__(self, name: object, /) -> bool: ...
    def __getitem__(self, name: str, /) -> Volume: ...

@final
class Volume:
    """A volume, opened for reading.

    Reads give stored values. ``scaled`` reads real values, stored value × ``slope`` +
    ``intercept``.
    """
    @property
    def label_names(self) -> dict[int, str]:
        """The names of single labels by their ids, ``{1: "liver"}``; empty if nobody named them."""
    @property
    def label_regions(self) -> dict[str, tuple[int, ...]]:
        """The ids of each name that stands for several labels, ``{"whole tumor": (1, 2, 3)}``."""
    @property
    def label_colors(self) -> dict[int, str]:
        """The colours of single labels by their ids, ``{1: "#ff0000"}``."""
    @property
    def levels(self) -> tuple[tuple[int, int, int], ...]:
        """The factors of each level along ``(z, y, x)``: how many voxels of level 0 one of the level
        covers. The first is ``(1, 1, 1)``; others are there if ``ingest`` was called with
        ``levels``. A level has only itself.
        """
    @property
    def level_number(self) -> int:
        """Which level of its volume it is; 0 for the volume itself."""
    def level(self, level: int) -> Volume:
        """The volume at a level.

        It is a ``Volume``: ``shape``, ``spacing``, ``affine``, ``stats`` and voxels are the
        level's, all else is the volume's, but for the ``changes`` of its source. For samplers and
        queues at a level, open the data set there: ``vq.open(path, level=1)``.

        Args:
            level: 0 for the volume itself, 1 for the next coarser level, and so on; ``levels``
                lists them.

        Raises:
            UsageError: There is no such level; the message names those that are there.
            DataError: Damaged metadata of the level.
        """
    @property
    def is_remote(self) -> bool:
        """Whether it is of a store behind a URL."""
    @property
    def name(self) -> str:
        """Its name in the subject."""
    @property
    def subject(self) -> Subject:
        """The subject that it belongs to."""
    @property
    def kind(self) -> Kind:
        """``"image"`` or ``"labels"``."""
    @property
    def shape(self) -> tuple[int, ...]:
        """Extents as numpy shows them: ``(z, y, x)`` or ``(c, z, y, x)``."""
    @property
    def content_id(self) -> str:
        """16 hexadecimal digits that depend on all voxels and metadata of the volume: volumes of
        different content have different ones. Those of a foreign array depend on its place and its
        metadata alone.
        """
    @property
    def ndim(self) -> int:
        """Number of axes, 3 or 4."""
    @property
    def dtype(self) -> np.dtype[Any]:
        """Element type, a ``numpy.dtype``."""
    @property
    def unit(self) -> Literal["meter", "millimeter", "micrometer"]:
        """The unit of ``affine`` and ``spacing``: ``"millimeter"`` unless the source states
        ``"micrometer"`` or ``"meter"``.
        """
    @property
    def spacing(self) -> tuple[float, float, float]:
        """Distances between voxels along ``(z, y, x)``, in ``unit``."""
    @property
    def changes(self) -> dict[str, Any] | None:
        """What ingest changed of the voxels of the source, and what the source was; ``None`` if it
        changed nothing.
        """
    @property
    def is_foreign(self) -> bool:
        """Whether it is no volume of a store, but an array of Zarr that ``open_zarr`` opened."""
    @property
    def affine(self) -> NDArray[np.float64]:
        """``(4, 4)`` float64: voxel index ``(x, y, z, 1)`` to RAS+ positions in ``unit``, as
        nibabel's.
        """
    @property
    def slope(self) -> float:
        """Real value = stored value × slope + intercept."""
    @property
    def intercept(self) -> float:
        """See ``slope``."""
    @property
    def chunks(self) -> tuple[int, int, int]:
        """Extents of the chunks that voxels are stored in, ``(z, y, x)``."""
    @property
    def patch_sizes(self) -> tuple[tuple[int, int, int], ...]:
        """The patch sizes that the chunks were chosen for at the ingest, each ``(z, y, x)``; a foreign
        array was made for none.
        """
    @property
    def stats(self) -> _Statistics:
        """Statistics of the stored values: ``voxels``, ``non_finite``, ``min``, ``max``, ``mean`` and
        ``std``; the last four are ``None`` where no voxel is finite. Those of a foreign array are
        computed at first use, by reading it once.
        """
    @property
    def labels(self) -> dict[int, int]:
        """The number of voxels of each label except 0: a dictionary, empty for images. All voxels are
        read where ``has_label_counts`` is false.
        """
    @property
    def has_label_counts(self) -> bool:
        """Whether the store holds the voxels of each label, so that ``labels`` reads none. It does not
        for images, levels, foreign arrays, and label maps of very many labels.
        """
    @property
    def scaled(self) -> ScaledVolume:
        """The volume as real values: a ``ScaledVolume``."""
    def read(
        self,
        start: _Start,
        size: Size,
        out: NDArray[Any] | None = None,
        padding: Padding = None,
        channels: Channels | None = None,
        scaled: bool = False,
    ) -> NDArray[Any]:
        """Reads the patch of ``size`` that begins at ``start``.

        Args:
            start: First voxel, ``(z, y, x)``; may be negative where a padding is given.
            size: An int for a cube, or ``(z, y, x)``.
            out: C-contiguous array of the volume's dtype and the result's shape; it is filled and
                returned.
            padding: What lies outside: ``None`` (an error), a number, ``"edge"`` or ``"reflect"``
                (numpy's).
            channels: The channels to read, an int or a list, in this order; no other is decoded.
            scaled: Give real values, as ``volume.scaled`` does; a number as ``padding`` is one,
                too. By default stored values.

        Returns:
            ``(z, y, x)`` or ``(c, z, y, x)`` voxels; always ``(c, z, y, x)`` if ``channels`` are
            given.

        Raises:
            UsageError: An argument with a value that is not accepted; ``out`` is untouched.
            DataError: Damaged chunks.
        """
    def read_batch(
        self,
        starts: ArrayLike | Sequence[_Start],
        size: Size,
        out: NDArray[Any] | None = None,
        padding: Padding = None,
        channels: Channels | None = None,
        scaled: bool = False,
    ) -> NDArray[Any]:
        """Reads one patch of ``size`` for each of ``starts``. A chunk is decoded once for all patches
        that it overlaps.

        Args:
            starts: ``(n, 3)`` integers, ``(z, y, x)``.
            size, out, padding, channels, scaled: As for ``read``.

        Returns:
            ``(n, z, y, x)`` or ``(n, c, z, y, x)`` voxels; always ``(n, c, z, y, x)`` if
            ``channels`` are given.
        """
    def at(
        self, spacing: float | Sequence[float] | None = None, orientation: str | None = None
    ) -> ResampledVolume:
        """The volume at another spacing and in another orientation, resampled as it is read.

        Args:
            spacing: A number, or three for the ``(z, y, x)`` of the result, in ``unit``; ``None``
                leaves it as it is.
            orientation: The directions in which the axes ``(x, y, z)`` ascend, as nibabel's codes:
                ``"RAS"``; ``None`` leaves them as they are.

        Returns:
            A ``ResampledVolume``.

        Raises:
            UsageError: A spacing that is not above 0, or an unknown orientation.
        """
    def read_ahead(
        self, starts: ArrayLike | Sequence[_Start], size: Size, channels: Channels | None = None
    ) -> None:
        """Begins to read the chunks of patches, and does not wait for them: from a disk into the
        system's page cache, from a server into the local cache.

        A later ``read_batch`` of these patches waits less. ``Queue`` and ``infer`` do so by
        themselves; a loop over a grid asks for the patches of its next batches.

        Args:
            starts: ``(n, 3)`` integers, ``(z, y, x)``; what lies outside of the volume is left out.
            size, channels: As for ``read_batch``.

        Raises:
            UsageError: An argument with a value that is not accepted.
            DataError, StorageError: A shard on a disk that cannot be opened. What is wrong with a
                chunk, or goes wrong with a server, is the error of a later read.
        """
    def read_affine(
        self,
        matrix: ArrayLike,
        patch_size: Size,
        order: Literal[0, 1, 3] = 1,
        padding: Padding = 0,
        dtype: DTypeLike | None = None,
        out: NDArray[Any] | None = None,
        displacement: ArrayLike | None = None,
    ) -> NDArray[Any]:
        """Reads a patch that is turned, scaled or bent: only the chunks that its voxels touch.

        ``docs/resampling.md`` defines every value.

        Args:
            matrix: ``(3, 4)``, or ``(4, 4)`` with the last row 0 0 0 1: maps the index
                ``(z, y, x, 1)`` of a voxel of the patch to an index ``(z, y, x)`` in the volume, in
                voxels, from the centre of the first one.
            patch_size: An int for a cube, or ``(z, y, x)``.
            order: 0 for the nearest voxel, 1 for trilinear, 3 for cubic (Keys, a = -0.5). Labels
                take 0 alone.
            padding: What lies outside: a number, ``"edge"``, ``"reflect"``, or ``None`` (an error).
            dtype: ``None`` is float32 for images and the volume's own for labels. Float types hold
                real values, stored value × ``slope`` + ``intercept``, and so does the padding; an
                image's own integer type holds stored values, rounded.
            out: C-contiguous array of that dtype and the result's shape; it is filled and returned.
            displacement: ``(3, kz, ky, kx)`` numbers that are added to the index, in voxels of the
                volume along z, y, x; knot ``k`` of ``n`` lies at index ``k * size / (n - 1)`` of
                the patch, and it is trilinear between knots.

        Returns:
            ``(z, y, x)`` or ``(c, z, y, x)`` voxels.

        Raises:
            UsageError: An argument with a value that is not accepted; ``out`` is untouched.
            DataError: Damaged chunks.
        """
    def read_affine_batch(
        self,
        matrices: ArrayLike,
        patch_size: Size,
        order: Literal[0, 1, 3] = 1,
        padding: Padding = 0,
        dtype: DTypeLike | None = None,
        out: NDArray[Any] | None = None,
        displacements: ArrayLike | None = None,
    ) -> NDArray[Any]:
        """Reads one patch for each of ``matrices``, as ``read_affine``; threads share the patches.

        Args:
            matrices: ``(n, 3, 4)`` or ``(n, 4, 4)``.
            displacements: ``(n, 3, kz, ky, kx)``.
            patch_size, order, padding, dtype, out: As for ``read_affine``.

        Returns:
            ``(n, z, y, x)`` or ``(n, c, z, y, x)`` voxels.
        """
    def show(
        self,
        at: str | Sequence[float] | None = None,
        window: str | tuple[float, float] | None = None,
        convention: Literal["radiological", "neurological"] = "radiological",
        labels: bool = True,
    ) -> Picture:
        """Draws three slices in true proportion, with labels, their names, and the ends of the window.

        Args:
            at: Where the slices meet: ``"middle"``, ``"labels"`` (where most of the subject's first
                label map is), or a position ``(x, y, z)`` in the affine's RAS+ space.
            window: The real values that are black and white: ``(low, high)``, or ``"lung"``,
                ``"bone"``, ``"soft"`` or ``"brain"`` for CT. By default percentiles of the slices.
            convention: ``"radiological"``: the patient's right is on the left;
                ``"neurological"``: on the right.
            labels: Whether the subject's first label map is drawn over an image.

        Returns:
            A ``Picture``: notebooks show it, ``png`` has the bytes, ``save`` writes a file.

        Raises:
            UsageError: An argument with a value that is not accepted, or a position outside of the
                volume.
            DataError: Damaged chunks.
        """
    def __len__(self) -> int: ...
    def __getitem__(self, index: _Index | tuple[_Index, ...], /) -> Any: ...
    def __array__(
        self, dtype: DTypeLike | None = None, copy: bool | None = None
    ) -> NDArray[Any]: ...

@final
class ScaledVolume:
    """A volume whose reads give real values, stored value × ``slope`` + ``intercept``.

    ``Volume.scaled`` makes it. Values are computed in double precision and rounded once, to
    float32, or to float64 for a volume that stores float64.

    Args:
        volume: What is read.
        dtype: float32 or float64; ``None`` chooses as above.

    Raises:
        UsageError: Another dtype.
    """
    def __new__(cls, volume: Volume, dtype: DTypeLike | None = None) -> ScaledVolume: ...
    @property
    def volume(self) -> Volume:
        """The volume that is read."""
    @property
    def shape(self) -> tuple[int, ...]:
        """Extents as numpy shows them: ``(z, y, x)`` or ``(c, z, y, x)``."""
    @property
    def content_id(self) -> str:
        """16 hexadecimal digits that depend on all voxels and metadata of the volume: volumes of
        different content have different ones.
        """
    @property
    def is_remote(self) -> bool:
        """Whether it is of a store behind a URL."""
    @property
    def ndim(self) -> int:
        """Number of axes, 3 or 4."""
    @property
    def dtype(self) -> np.dtype[Any]:
        """Element type of what is read, a ``numpy.dtype``."""
    def astype(self, dtype: DTypeLike) -> ScaledVolume:
        """The same volume, read as float32 or float64."""
    def read(
        self,
        start: _Start,
        size: Size,
        out: NDArray[Any] | None = None,
        padding: Padding = None,
        channels: Channels | None = None,
    ) -> NDArray[Any]:
        """Reads one patch, as ``Volume.read``; a number as ``padding`` is a real value."""
    def read_batch(
        self,
        starts: ArrayLike | Sequence[_Start],
        size: Size,
        out: NDArray[Any] | None = None,
        padding: Padding = None,
        channels: Channels | None = None,
    ) -> NDArray[Any]:
        """Reads several patches, as ``Volume.read_batch``; a number as ``padding`` is a real value."""
    def read_ahead(
        self, starts: ArrayLike | Sequence[_Start], size: Size, channels: Channels | None = None
    ) -> None:
        """Begins to read the chunks of patches, as ``Volume.read_ahead``."""
    def __len__(self) -> int: ...
    def __getitem__(self, index: _Index | tuple[_Index, ...], /) -> Any: ...
    def __array__(
        self, dtype: DTypeLike | None = None, copy: bool | None = None
    ) -> NDArray[Any]: ...

@final
class ResampledVolume:
    """A volume as it would be at another spacing or orientation; nothing is stored.

    ``Volume.at`` makes it. Axes are exchanged, mirrored and scaled, never turned; the outer faces
    at the begin of each axis stay in place. Images are read as float32, real values, and labels in
    their own type; ``docs/resampling.md`` defines the values.
    """
    @property
    def volume(self) -> Volume:
        """The volume that is read."""
    @property
    def is_remote(self) -> bool:
        """Whether it is of a store behind a URL."""
    @property
    def name(self) -> str:
        """Its name in the subject."""
    @property
    def kind(self) -> Kind:
        """``"image"`` or ``"labels"``."""
    @property
    def shape(self) -> tuple[int, ...]:
        """Extents as numpy shows them: ``(z, y, x)`` or ``(c, z, y, x)``."""
    @property
    def dtype(self) -> np.dtype[Any]:
        """Element type of what is read, a ``numpy.dtype``."""
    @property
    def unit(self) -> Literal["meter", "millimeter", "micrometer"]:
        """The unit of ``affine`` and ``spacing``, the volume's."""
    @property
    def spacing(self) -> tuple[float, float, float]:
        """Distances between voxels along ``(z, y, x)``, in ``unit``."""
    @property
    def affine(self) -> NDArray[np.float64]:
        """``(4, 4)`` float64: voxel index ``(x, y, z, 1)`` to RAS+ positions in ``unit``."""
    def read(
        self,
        start: _Start,
        size: Size,
        out: NDArray[Any] | None = None,
        padding: Padding = None,
        order: Literal[0, 1, 3] | None = None,
    ) -> NDArray[Any]:
        """Reads the patch of ``size`` that begins at ``start``.

        Args:
            start: First voxel, ``(z, y, x)``; may be negative where a padding is given.
            size: An int for a cube, or ``(z, y, x)``.
            out: C-contiguous array of ``dtype`` and the result's shape; it is filled and returned.
            padding: What lies outside: ``None`` (an error), a number, ``"edge"`` or ``"reflect"``.
            order: As for ``Volume.read_affine``; ``None`` is 1 for images and 0 for labels.

        Returns:
            ``(z, y, x)`` or ``(c, z, y, x)`` voxels.

        Raises:
            UsageError: An argument with a value that is not accepted; ``out`` is untouched.
            DataError: Damaged chunks.
        """
    def read_batch(
        self,
        starts: ArrayLike | Sequence[_Start],
        size: Size,
        out: NDArray[Any] | None = None,
        padding: Padding = None,
        order: Literal[0, 1, 3] | None = None,
    ) -> NDArray[Any]:
        """Reads one patch of ``size`` for each of ``starts``, ``(n, 3)``; else as ``read``.

        Returns:
            ``(n, z, y, x)`` or ``(n, c, z, y, x)`` voxels.
        """
    def read_ahead(
        self,
        starts: ArrayLike | Sequence[_Start],
        size: Size,
        order: Literal[0, 1, 3] | None = None,
    ) -> None:
        """Begins to read the chunks of patches, as ``Volume.read_ahead``."""
    def __len__(self) -> int: ...

@final
class UniformSampler:
    """Draws patches uniformly.

    Args:
        patch_size: Voxels of a patch, an int for a cube or ``(z, y, x)``.
        border: What is done with patches that would leave the volume. ``"exclude"``: they are never
            drawn, and every start inside is equally likely. ``"clamp"``: every voxel is equally
            likely to be the centre, ``start + patch_size // 2``, and the patch is moved back into
            the volume. ``"pad"``: the same, but the patch may leave the volume; read it with a
            padding.

    Raises:
        UsageError: A size below 1, or another border.
    """
    def __new__(cls, patch_size: Size, border: Border = "exclude") -> UniformSampler: ...
    @property
    def patch_size(self) -> tuple[int, int, int]:
        """Voxels of a patch, ``(z, y, x)``."""
    @property
    def border(self) -> Border:
        """``"exclude"``, ``"clamp"`` or ``"pad"``."""
    def missing(
        self,
        dataset: Dataset,
        subjects: Sequence[str] | None = None,
        on_missing: OnMissing = "background",
    ) -> dict[str, str]:
        """Finds the subjects in which no patch can be drawn, because they lack the label map, all
        labels of a probability above 0, or all weight, or because no patch of them can meet a
        constraint.

        The label counts and the sums of weights that ingest recorded tell; a volume without them is
        read once.

        Args:
            dataset: The store.
            subjects: Names of the subjects to look at; all if None.
            on_missing: ``"error"`` refuses such subjects, and ``"skip"`` does if there is no other.

        Returns:
            The reason for each such subject, by its name.

        Raises:
            UsageError: As ``on_missing`` says; a patch that is larger than a volume.
            KeyError: No such subject.
            DataError: As ``locations``.
        """
    def locations(
        self, subject: Subject, n: int, seed: int = 0, epoch: int = 0, first: int = 0
    ) -> NDArray[np.int64]:
        """Draws samples ``first`` to ``first + n`` of a subject.

        A location is a pure function of the seed, the epoch, the name of the subject and the number
        of the sample: the same on any number of threads or machines, in any order.

        Args:
            subject: The subject to draw from.
            n: The number of samples.
            seed, epoch: 0 to 2**64 - 1.
            first: The number of the first sample; a subject has 2**32 in an epoch.

        Returns:
            ``(n, 3)`` int64 starts, ``(z, y, x)``.

        Raises:
            UsageError: A patch that is larger than the volume (except with ``border="pad"``),
                samples beyond 2**32, a volume without a voxel that may be a centre, a subject
                without a label map, or constraints that no attempt fulfils.
            KeyError: No such volume.
            DataError: A label that is not an integer, or a weight that is negative or not finite;
                the message has its index.
        """
    def probability_map(self, subject: Subject) -> NDArray[np.float64]:
        """Computes the probability of each voxel to be the centre of a patch.

        Returns:
            ``(z, y, x)`` float64, as large as the volume.

        Raises:
            UsageError: A sampler with constraints; otherwise as ``locations``.
        """

@final
class WeightedSampler:
    """Draws patches whose centres, ``start + patch_size // 2``, are drawn by the values of a volume.

    The probability of a voxel is its real value (stored value × slope + intercept) over the sum of
    all voxels that may be centres: the distribution of TorchIO's ``WeightedSampler``. Sums of the
    volume's chunks choose a chunk, and only that chunk is decoded to choose the voxel: memory grows
    with the number of chunks, not of voxels. The sums are made at ingest for ``Weights``, otherwise
    at first use, and kept beside the volume if the store is writable.

    Args:
        patch_size: Voxels of a patch, an int for a cube or ``(z, y, x)``.
        weights: A volume of the subject; finite, not negative.
        border: What is done with patches that would leave the volume. ``"exclude"``: they are never
            drawn (TorchIO). ``"clamp"``: every voxel may be the centre, and the patch is moved back
            into the volume (MONAI). ``"pad"``: the same, but the patch may leave the volume
            (nnU-Net); read it with a padding.
        channel: The channel of the volume that holds the weights.

    Raises:
        UsageError: A size below 1, or another border.
    """
    def __new__(
        cls, patch_size: Size, weights: str, border: Border = "exclude", channel: int = 0
    ) -> WeightedSampler: ...
    @property
    def patch_size(self) -> tuple[int, int, int]:
        """Voxels of a patch, ``(z, y, x)``."""
    @property
    def border(self) -> Border:
        """``"exclude"``, ``"clamp"`` or ``"pad"``."""
    @property
    def weights(self) -> str:
        """The volume of weights."""
    @property
    def channel(self) -> int:
        """The channel of the volume that holds the weights."""
    def missing(
        self,
        dataset: Dataset,
        subjects: Sequence[str] | None = None,
        on_missing: OnMissing = "background",
    ) -> dict[str, str]:
        """Finds the subjects in which no patch can be drawn, because they lack the label map, all
        labels of a probability above 0, or all weight, or because no patch of them can meet a
        constraint.

        The label counts and the sums of weights that ingest recorded tell; a volume without them is
        read once.

        Args:
            dataset: The store.
            subjects: Names of the subjects to look at; all if None.
            on_missing: ``"error"`` refuses such subjects, and ``"skip"`` does if there is no other.

        Returns:
            The reason for each such subject, by its name.

        Raises:
            UsageError: As ``on_missing`` says; a patch that is larger than a volume.
            KeyError: No such subject.
            DataError: As ``locations``.
        """
    def locations(
        self, subject: Subject, n: int, seed: int = 0, epoch: int = 0, first: int = 0
    ) -> NDArray[np.int64]:
        """Draws samples ``first`` to ``first + n`` of a subject.

        A location is a pure function of the seed, the epoch, the name of the subject and the number
        of the sample: the same on any number of threads or machines, in any order.

        Args:
            subject: The subject to draw from.
            n: The number of samples.
            seed, epoch: 0 to 2**64 - 1.
            first: The number of the first sample; a subject has 2**32 in an epoch.

        Returns:
            ``(n, 3)`` int64 starts, ``(z, y, x)``.

        Raises:
            UsageError: A patch that is larger than the volume (except with ``border="pad"``),
                samples beyond 2**32, a volume without a voxel that may be a centre, a subject
                without a label map, or constraints that no attempt fulfils.
            KeyError: No such volume.
            DataError: A label that is not an integer, or a weight that is negative or not finite;
                the message has its index.
        """
    def probability_map(self, subject: Subject) -> NDArray[np.float64]:
        """Computes the probability of each voxel to be the centre of a patch.

        Returns:
            ``(z, y, x)`` float64, as large as the volume.

        Raises:
            UsageError: A sampler with constraints; otherwise as ``locations``.
        """

@final
class LabelSampler:
    """Draws patches whose centres, ``start + patch_size // 2``, have certain labels.

    The label counts that ingest makes for ``Labels`` choose a chunk, and only that chunk is decoded
    to choose the voxel: exact, in memory that grows with the number of chunks, not of voxels. Any
    volume of integers will do; one without counts is counted at first use.

    At most one of ``probabilities``, ``pos_neg`` and ``foreground_fraction`` is given; with none,
    every voxel of a label above 0 is equally likely. Within a class every voxel that may be a
    centre always is. Classes that a subject does not have among its possible centres are left out,
    and the others share their part.

    In a one-hot map, with several channels, each channel is a class and channel 0 the background.

    Args:
        patch_size: Voxels of a patch, an int for a cube or ``(z, y, x)``.
        labels: A volume of the subject; ``None``: its first label map.
        probabilities: How often each label is drawn, in any unit: ``{1: 2.0, 2: 1.0}`` (TorchIO's
            ``LabelSampler``), or a sequence for the labels 0, 1, … (with ``border="clamp"`` MONAI's
            ``RandCropByLabelClasses``).
        border: What is done with patches that would leave the volume. ``"exclude"``: they are never
            drawn (TorchIO). ``"clamp"``: every voxel may be the centre, and the patch is moved back
            into the volume (MONAI). ``"pad"``: the same, but the patch may leave the volume
            (nnU-Net); read it with a padding.
        channel: Takes one channel as an ordinary label map.
        pos_neg: Two parts: labels above 0, and the other voxels (with ``border="clamp"`` MONAI's
            ``RandCropByPosNegLabel``).
        foreground_fraction: The fraction of the samples that is centred on a label above 0, equally
            often on each that the subject has; the others may be centred anywhere (with
            ``border="pad"`` nnU-Net's, which takes 0.33). Forced samples are spread evenly: of any
            k successive samples, k times the fraction are forced, to within one.

    Raises:
        UsageError: A size below 1, another border, or numbers out of range.
    """
    def __new__(
        cls,
        patch_size: Size,
        labels: str | None = None,
        probabilities: Mapping[int, float] | Sequence[float] | None = None,
        border: Border = "exclude",
        channel: int | None = None,
        pos_neg: tuple[float, float] | None = None,
        foreground_fraction: float | None = None,
    ) -> LabelSampler: ...
    @property
    def patch_size(self) -> tuple[int, int, int]:
        """Voxels of a patch, ``(z, y, x)``."""
    @property
    def border(self) -> Border:
        """``"exclude"``, ``"clamp"`` or ``"pad"``."""
    @property
    def labels(self) -> str | None:
        """The volume that holds the labels; ``None``: the first label map."""
    @property
    def probabilities(self) -> dict[int, float] | None:
        """How often each label is drawn, if given."""
    @property
    def channel(self) -> int | None:
        """The channel that is taken as a label map, if given."""
    @property
    def pos_neg(self) -> tuple[float, float] | None:
        """The parts of foreground and background, if given."""
    @property
    def foreground_fraction(self) -> float | None:
        """The fraction of forced samples, if given."""
    def check(self, dataset: Dataset) -> None:
        """Checks that some subject has each label of ``probabilities`` with a part above 0.

        Because a sampler leaves out the labels that a subject lacks, a label that all subjects lack
        would go unnoticed.

        Raises:
            UsageError: Labels that no subject has, or a subject without a label map.
        """
    def missing(
        self,
        dataset: Dataset,
        subjects: Sequence[str] | None = None,
        on_missing: OnMissing = "background",
    ) -> dict[str, str]:
        """Finds the subjects in which no patch can be drawn, because they lack the label map, all
        labels of a probability above 0, or all weight, or because no patch of them can meet a
        constraint.

        The label counts and the sums of weights that ingest recorded tell; a volume without them is
        read once.

        Args:
            dataset: The store.
            subjects: Names of the subjects to look at; all if None.
            on_missing: ``"error"`` refuses such subjects, and ``"skip"`` does if there is no other.

        Returns:
            The reason for each such subject, by its name.

        Raises:
            UsageError: As ``on_missing`` says; a patch that is larger than a volume.
            KeyError: No such subject.
            DataError: As ``locations``.
        """
    def locations(
        self, subject: Subject, n: int, seed: int = 0, epoch: int = 0, first: int = 0
    ) -> NDArray[np.int64]:
        """Draws samples ``first`` to ``first + n`` of a subject.

        A location is a pure function of the seed, the epoch, the name of the subject and the number
        of the sample: the same on any number of threads or machines, in any order.

        Args:
            subject: The subject to draw from.
            n: The number of samples.
            seed, epoch: 0 to 2**64 - 1.
            first: The number of the first sample; a subject has 2**32 in an epoch.

        Returns:
            ``(n, 3)`` int64 starts, ``(z, y, x)``.

        Raises:
            UsageError: A patch that is larger than the volume (except with ``border="pad"``),
                samples beyond 2**32, a volume without a voxel that may be a centre, a subject
                without a label map, or constraints that no attempt fulfils.
            KeyError: No such volume.
            DataError: A label that is not an integer, or a weight that is negative or not finite;
                the message has its index.
        """
    def probability_map(self, subject: Subject) -> NDArray[np.float64]:
        """Computes the probability of each voxel to be the centre of a patch.

        Returns:
            ``(z, y, x)`` float64, as large as the volume.

        Raises:
            UsageError: A sampler with constraints; otherwise as ``locations``.
        """

@final
class ObjectSampler:
    """Draws patches that hold an object wholly: a label above 0 of an instance map.

    Every place at which a patch holds its object is equally likely. Objects that do not fit into a
    patch are never drawn; ``objects`` shows them. The boxes of the labels are found at first use:
    the label counts that ingest makes for ``Labels`` show which chunks lie at the rim of a label,
    and only these are decoded.

    One patch for each object of a data set in each epoch:
    ``vq.Queue(ds, sampler, subjects=sampler.counts(ds))`` with ``order="each"``.

    Args:
        patch_size: Voxels of a patch, an int for a cube or ``(z, y, x)``.
        labels: A volume of the subject; ``None``: its first label map.
        border: ``"exclude"`` and ``"clamp"``: patches stay inside the volume. ``"pad"``: they may
            leave it; read them with a padding.
        order: ``"random"``: a sample is of any object, each equally likely. ``"each"``: sample
            ``n`` is of object ``n`` modulo their number, ascending by label.
        channel: The channel of the label map that holds the objects.

    Raises:
        UsageError: A size below 1, another border or order.
    """
    def __new__(
        cls,
        patch_size: Size,
        labels: str | None = None,
        border: Border = "exclude",
        order: Literal["random", "each"] = "random",
        channel: int = 0,
    ) -> ObjectSampler: ...
    def objects(
        self, subject: Subject
    ) -> list[tuple[int, tuple[int, int, int, int, int, int], bool]]:
        """The labels above 0 of a subject, ascending.

        Returns:
            Label, box ``(z0, y0, x0, z1, y1, x1)`` from the first voxel to one past the last, and
            whether it fits into a patch.

        Raises:
            UsageError: A subject without a label map, or a channel that it does not have.
            KeyError: No such volume.
            DataError: A label that is not an integer.
        """
    def counts(self, dataset: Dataset, subjects: Sequence[str] | None = None) -> dict[str, int]:
        """The number of objects that fit into a patch, of each subject that has some: ``subjects=`` of
        a ``Queue``.

        Args:
            dataset: The store.
            subjects: Names of the subjects to look at; all if None.

        Raises:
            KeyError: No such subject.
            UsageError, DataError: As ``objects``.
        """
    @property
    def labels(self) -> str | None:
        """The volume that holds the labels; ``None``: the first label map."""
    @property
    def order(self) -> str:
        """``"random"`` or ``"each"``."""
    @property
    def channel(self) -> int:
        """The channel of the label map that holds the objects."""
    @property
    def patch_size(self) -> tuple[int, int, int]:
        """Voxels of a patch, ``(z, y, x)``."""
    @property
    def border(self) -> Border:
        """``"exclude"``, ``"clamp"`` or ``"pad"``."""
    def locations(
        self, subject: Subject, n: int, seed: int = 0, epoch: int = 0, first: int = 0
    ) -> NDArray[np.int64]:
        """Draws samples ``first`` to ``first + n`` of a subject.

        A location is a pure function of the seed, the epoch, the name of the subject and the number
        of the sample: the same on any number of threads or machines, in any order.

        Args:
            subject: The subject to draw from.
            n: The number of samples.
            seed, epoch: 0 to 2**64 - 1.
            first: The number of the first sample; a subject has 2**32 in an epoch.

        Returns:
            ``(n, 3)`` int64 starts, ``(z, y, x)``.

        Raises:
            UsageError: A patch that is larger than the volume (except with ``border="pad"``),
                samples beyond 2**32, a volume without a voxel that may be a centre, a subject
                without a label map, or constraints that no attempt fulfils.
            KeyError: No such volume.
            DataError: A label that is not an integer, or a weight that is negative or not finite;
                the message has its index.
        """
    def missing(
        self,
        dataset: Dataset,
        subjects: Sequence[str] | None = None,
        on_missing: OnMissing = "background",
    ) -> dict[str, str]:
        """Finds the subjects in which no patch can be drawn, because they lack the label map, all
        labels of a probability above 0, or all weight, or because no patch of them can meet a
        constraint.

        The label counts and the sums of weights that ingest recorded tell; a volume without them is
        read once.

        Args:
            dataset: The store.
            subjects: Names of the subjects to look at; all if None.
            on_missing: ``"error"`` refuses such subjects, and ``"skip"`` does if there is no other.

        Returns:
            The reason for each such subject, by its name.

        Raises:
            UsageError: As ``on_missing`` says; a patch that is larger than a volume.
            KeyError: No such subject.
            DataError: As ``locations``.
        """
    def probability_map(self, subject: Subject) -> NDArray[np.float64]:
        """Computes the probability of each voxel to be the centre of a patch.

        Returns:
            ``(z, y, x)`` float64, as large as the volume.

        Raises:
            UsageError: A sampler with constraints; otherwise as ``locations``.
        """

@final
@final
class ConstrainedSampler:
    """Draws from another random sampler until the patch fulfils all constraints.

    Each attempt has a random stream of its own, so that a sample stays a pure function of seed,
    epoch, subject and number.

    Args:
        sampler: A uniform, weighted or label sampler.
        min_foreground: The least fraction of a patch's voxels that is above 0 in ``labels``; voxels
            outside the volume are not. Label counts of chunks decide if they can, otherwise chunks
            are decoded.
        labels: A volume of the subject; ``None``: its first label map.
        inside: A mask of the subject: all voxels of a patch lie inside the volume and are above 0
            in the mask. (If only the centre has to, use a ``LabelSampler`` of the mask.)
        min_distance: The least distance in voxels, Euclidean, between the starts of a subject's
            samples in an epoch. A sample then depends on those before it: sample n costs n + 1
            samples, and an epoch has at most 65,536.
        attempts: The largest number of attempts for a sample.
        on_failure: What is done when all attempts fail. ``"best"``: take the attempt whose worst
            constraint is fulfilled best. ``"guided"``: make as many attempts again, centred on
            voxels above 0 of ``labels`` (of ``inside`` without ``min_foreground``), and take the
            best of all if these fail too; a subject in which no patch can fulfil a constraint, as
            the label counts show, is refused at once. ``"error"``.

    Raises:
        UsageError: Numbers out of range, or a sampler of another kind.
    """
    def __new__(
        cls,
        sampler: _RandomSampler,
        min_foreground: float | None = None,
        labels: str | None = None,
        inside: str | None = None,
        min_distance: float | None = None,
        attempts: int = 100,
        on_failure: OnFailure = "guided",
    ) -> ConstrainedSampler: ...
    @property
    def patch_size(self) -> tuple[int, int, int]:
        """Voxels of a patch, ``(z, y, x)``."""
    @property
    def border(self) -> Border:
        """``"exclude"``, ``"clamp"`` or ``"pad"``."""
    @property
    def sampler(self) -> _RandomSampler:
        """The sampler that is drawn from."""
    def missing(
        self,
        dataset: Dataset,
        subjects: Sequence[str] | None = None,
        on_missing: OnMissing = "background",
    ) -> dict[str, str]:
        """Finds the subjects in which no patch can be drawn, because they lack the label map, all
        labels of a probability above 0, or all weight, or because no patch of them can meet a
        constraint.

        The label counts and the sums of weights that ingest recorded tell; a volume without them is
        read once.

        Args:
            dataset: The store.
            subjects: Names of the subjects to look at; all if None.
            on_missing: ``"error"`` refuses such subjects, and ``"skip"`` does if there is no other.

        Returns:
            The reason for each such subject, by its name.

        Raises:
            UsageError: As ``on_missing`` says; a patch that is larger than a volume.
            KeyError: No such subject.
            DataError: As ``locations``.
        """
    def locations(
        self, subject: Subject, n: int, seed: int = 0, epoch: int = 0, first: int = 0
    ) -> NDArray[np.int64]:
        """Draws samples ``first`` to ``first + n`` of a subject.

        A location is a pure function of the seed, the epoch, the name of the subject and the number
        of the sample: the same on any number of threads or machines, in any order.

        Args:
            subject: The subject to draw from.
            n: The number of samples.
            seed, epoch: 0 to 2**64 - 1.
            first: The number of the first sample; a subject has 2**32 in an epoch.

        Returns:
            ``(n, 3)`` int64 starts, ``(z, y, x)``.

        Raises:
            UsageError: A patch that is larger than the volume (except with ``border="pad"``),
                samples beyond 2**32, a volume without a voxel that may be a centre, a subject
                without a label map, or constraints that no attempt fulfils.
            KeyError: No such volume.
            DataError: A label that is not an integer, or a weight that is negative or not finite;
                the message has its index.
        """

@final
class SubjectSampler:
    """Draws subjects of a dataset, with replacement.

    Args:
        dataset: The dataset to draw from.
        weights: ``"equal"``; ``"volume"``: by the number of voxels, so that each voxel of the
            dataset is equally likely; or a dictionary of weights by name, in which subjects that
            are missing are never drawn.

    Raises:
        UsageError: Weights that are negative, not finite or all zero.
        KeyError: A name that is no subject.
    """
    def __new__(
        cls, dataset: Dataset, weights: Literal["equal", "volume"] | Mapping[str, float] = "equal"
    ) -> SubjectSampler: ...
    def subject(self, k: int, seed: int = 0, epoch: int = 0) -> str:
        """The subject of draw ``k`` of an epoch: a pure function of these numbers and the subjects of
        the dataset.
        """
    def counts(self, draws: int, seed: int = 0, epoch: int = 0) -> dict[str, int]:
        """Counts how many of the first ``draws`` of an epoch each subject gets; subjects without any
        are left out.
        """

@final
class Scale:
    """Maps patches of one volume to the same place in a volume of another spacing: exactly, or not at
    all.

    Both volumes cover the same box of space. Along each axis a number of voxels of the other volume
    covers a number of voxels of the first.

    Args:
        one: The volume whose starts are given, of any subject.
        other: The volume whose starts are wanted.

    Raises:
        UsageError: The volumes cover different boxes, or the ratio of their extents has no terms up
            to 64.
    """
    def __new__(cls, one: Volume, other: Volume) -> Scale: ...
    @property
    def ratios(self) -> list[tuple[int, int]]:
        """Voxels of the other volume for those of the first, ``(z, y, x)``, as numerator and
        denominator.
        """
    def patches(
        self, starts: ArrayLike | Sequence[_Start], patch_size: Size
    ) -> tuple[NDArray[np.int64], tuple[int, int, int]]:
        """Computes starts and size of the patches that cover the same space in the other volume.

        Returns:
            ``(n, 3)`` int64 starts and the size, ``(z, y, x)``.

        Raises:
            UsageError: A patch whose faces would cut voxels of the other volume.
        """

@final
class GridSampler:
    """Lays overlapping patches over a volume, for inference with a sliding window.

    Args:
        patch_size: Voxels of a patch, an int for a cube or ``(z, y, x)``.
        overlap: Voxels that neighbouring patches share, an int or ``(z, y, x)``; a float such as
            ``0.5`` is a fraction of the patch.
        padding: ``None`` keeps patches inside the volume, which has to hold one. With a number,
            ``"edge"`` or ``"reflect"`` they may leave it; give the same padding to ``read``. An
            axis that is too short gets one patch about its middle.
        placement: ``"flush"``: one patch every stride, the last moved back to end with the volume
            (TorchIO, MONAI). ``"even"``: as few as the stride allows, evenly spread (nnU-Net).
        margin: How far a padded grid reaches beyond the volume. ``"half-overlap"``:
            ``overlap // 2`` voxels on each side of every axis (TorchIO). ``"none"``: not at all, so
            that patches leave the volume only on axes that are shorter than a patch, by half the
            difference, rounded down in front (MONAI, nnU-Net).

    Raises:
        UsageError: A size below 1, an overlap that is not smaller than the patch, or an unknown
            name.
    """
    def __new__(
        cls,
        patch_size: Size,
        overlap: float | Sequence[int] = 0,
        padding: Padding = None,
        placement: Placement = "flush",
        margin: Margin = "half-overlap",
    ) -> GridSampler: ...
    @property
    def patch_size(self) -> tuple[int, int, int]:
        """Voxels of a patch, ``(z, y, x)``."""
    @property
    def overlap(self) -> tuple[int, int, int] | float:
        """Voxels that neighbouring patches share, ``(z, y, x)``, or a fraction of the patch, as given."""
    @property
    def padding(self) -> Padding:
        """``None``, a number, ``"edge"`` or ``"reflect"``."""
    @property
    def placement(self) -> Placement:
        """``"flush"`` or ``"even"``."""
    @property
    def margin(self) -> Margin:
        """``"half-overlap"`` or ``"none"``."""
    def locations(
        self, subject: Subject | Volume | ScaledVolume | Sequence[int]
    ) -> NDArray[np.int64]:
        """Lists every patch of the grid.

        Args:
            subject: What the grid covers: a subject, a volume, or extents ``(z, y, x)``.

        Returns:
            ``(n, 3)`` int64 starts, ``(z, y, x)``, in lexicographic order; negative where a padded
            grid begins outside the volume.

        Raises:
            UsageError: A patch that is larger than the volume, without a padding.
        """

@final
class Augment:
    """Random changes of the patches of a queue; a part that is not given changes nothing.

    The spatial parts of a patch become one map, the same for all its volumes, so that any number of
    them costs one interpolation: linear for images unless ``order`` says otherwise, the nearest
    voxel for labels. The parts from ``noise`` on change the values of images, each channel by
    itself, after they are normalized, in the order in which they are listed here. Everything is a
    pure function of the queue's seed, the epoch, the subject and the number of the patch.
    ``docs/augmentation.md`` defines each part.

    A range is a pair, from the lowest to the greatest number. Parts with axes take one for all, or
    three for ``(z, y, x)``.

    Args:
        rotation_degrees: Turn about each axis in millimetres, to whatever side: a number for
            ``(-number, number)``, or a range.
        scale: Range of the magnification: at 2 all things look twice as large.
        per_axis: Whether each axis has a scale of its own.
        flip: Mirror each axis in half of the patches: ``True`` for all, or the axes, 0 for z, 1 for
            y, 2 for x.
        translation: Shift in voxels, as for ``rotation_degrees``.
        elastic: The farthest displacement of a knot along each axis, in voxels: a number, or a
            range that it is drawn from.
        elastic_knots: Voxels from knot to knot.
        shear: What an axis moves along each other one, as a factor below 0.5, as for
            ``rotation_degrees``.
        p: The probability of each part: a number for all, or a mapping from their names
            (``"rotation"`` for ``rotation_degrees``); others have 1. Parts are drawn independently.
        noise: Standard deviation of Gaussian noise: a range, or a number for ``(0, number)``.
        blur: Standard deviation of a Gaussian filter in voxels, as for ``noise``.
        brightness: Range of a factor of all values.
        shift: What is added to all values: a number for ``(-number, number)``, or a range.
        contrast: Range of a factor of the distances to the mean; values stay between the patch's
            least and greatest one.
        low_resolution: Range of the part of the voxels along each axis that are kept and
            interpolated between.
        inverted_gamma: As ``gamma``, of the negative.
        gamma: Range of the exponent of a curve between the patch's least and greatest value; mean
            and standard deviation are restored.
        order: Interpolation of images, 0, 1 or 3 as for ``Volume.read_affine``.

    Raises:
        UsageError: A range that descends or that the part does not allow, an unknown name or axis.

    >>> augment = vq.Augment(rotation_degrees=30, scale=(0.7, 1.4), flip=True, noise=0.1)
    >>> queue = vq.Queue(ds, sampler, augment=augment, normalize="zscore")
    """
    def __new__(
        cls,
        *,
        rotation_degrees: Ranges | None = None,
        scale: Ranges | None = None,
        per_axis: bool = False,
        flip: bool | int | Sequence[int] = False,
        translation: Ranges | None = None,
        elastic: Range | None = None,
        elastic_knots: int = 16,
        shear: Ranges | None = None,
        p: float | Mapping[str, float] = 1.0,
        noise: Range | None = None,
        blur: Ranges | None = None,
        brightness: Range | None = None,
        shift: Range | None = None,
        contrast: Range | None = None,
        low_resolution: Range | None = None,
        inverted_gamma: Range | None = None,
        gamma: Range | None = None,
        order: int = 1,
    ) -> Augment: ...
    @staticmethod
    def nnunet() -> Augment:
        """The ranges and probabilities of nnU-Net v2's default training, for 3-D patches of similar
        extents along all axes; ``docs/augmentation.md`` lists what differs.
        """
    @staticmethod
    def torchio() -> Augment:
        """The defaults of TorchIO's ``RandomFlip`` over all axes, ``RandomAffine``,
        ``RandomElasticDeformation``, ``RandomNoise``, ``RandomBlur`` and ``RandomGamma``;
        ``docs/augmentation.md`` lists what differs.
        """
    @staticmethod
    def monai() -> Augment:
        """MONAI's usual transforms, each with its default probability, 0.1: ``RandAffine``,
        ``RandFlip``, ``RandScaleIntensity``, ``RandShiftIntensity``, ``RandGaussianNoise``,
        ``RandGaussianSmooth`` and ``RandAdjustContrast``; ``docs/augmentation.md`` lists what
        differs.
        """
    def __eq__(self, other: object, /) -> bool: ...
    def __hash__(self) -> int: ...

@final
class Queue:
    """Batches of patches for training, read ahead by threads in an order that is known in advance.

    Each iteration yields the dictionaries of the next epoch. Each volume has an array
    ``(B, C, z, y, x)``, where ``C`` is 1 if the volume has no channels. ``"location"`` is
    ``(B, 6)`` int64, the first voxel and one past the last, ``(z0, y0, x0, z1, y1, x1)``.
    ``"subject"`` is a list of ``B`` names. A queue with ``augment``, or over a view, has
    ``"transform"``, too, ``(B, 4, 4)`` float64: the map of a voxel's index in the patch,
    ``(z, y, x, 1)``, to its RAS+ position, without elastic displacements; ``"location"`` is then
    what the sampler chose, and the middle of the patch is the middle of that box, unless a
    translation moved it. Arrays are writable and borrow memory that the queue reuses once nothing
    refers to them.

    The batches are a pure function of the arguments and the epoch: they are the same on any number
    of threads, and after a resume. Each iteration takes the next epoch, with other patches, unless
    ``set_epoch`` or ``load_state_dict`` choose. Reading starts with the iteration; leaving
    the loop ends the threads. A pickled queue holds its arguments and state, and another process
    opens it anew. A forked process that continues an iteration reads with threads of its own.

    Args:
        dataset: An open store, or a view of one at another spacing or orientation, ``ds.at(…)``:
            locations are then in voxels of the view, images are float32, and samplers by labels or
            weights draw a stored voxel and need ``border="clamp"`` or ``"pad"``.
        sampler: A random sampler, or a ``GridSampler``, which gives every patch of each subject.
        volumes: Names of the volumes that are read of every patch, each with the same dtype and
            channels in every subject; ``None``: all volumes of the first subject.
        patches_per_subject: Random patches of a subject in an epoch. A grid has its own number.
        batch_size: Patches in a batch.
        buffer_bytes: Memory for batches that are read ahead, an int or a string like ``"512MiB"``.
        shuffle: ``"global"``: a random permutation of all patches. ``"window"``: patches are mixed
            over a window that slides over shuffled subjects, so that few subjects are in use at a
            time. ``"none"``: subject after subject.
        seed: The seed of samples and order, 0 to 2**64 - 1.
        rank, world_size: Each rank gets every ``world_size``-th patch, from its own number on. All
            ranks get as many; if the patches do not divide evenly, the first ones are repeated.
        drop_last: Leave out the patches that do not fill a batch on every rank.
        subjects: Names of the subjects to read, in that order, with repetitions if need be; or a
            mapping from names to their numbers of patches.
        padding: Voxels outside a volume: ``None``, a number, ``"edge"`` or ``"reflect"``; or a
            mapping from volumes to these. ``None`` is the grid's own padding, 0 for samplers with
            ``border="pad"``, and otherwise an error.
        window_bytes: Bytes of voxels of the subjects that ``shuffle="window"`` uses at a time.
        cache_bytes: Memory for decoded chunks of stores whose codec is worth it; by default that of
            the dataset.
        eviction: The decoded chunk that is evicted first: the one with the ``"farthest"`` next use,
            or with the ``"oldest"`` last use.
        threads: Threads that read; by default those of the dataset.
        on_missing: What is done with subjects in which the sampler can draw no patch (see
            ``missing`` of samplers), known when the queue is made. ``"error"``: they are listed.
            ``"skip"``: they are left out. ``"background"``: their patches are drawn anywhere, as by
            a ``UniformSampler`` of the same size and border.
        channels: The channels to read, an int or a list, in this order; or a mapping from volumes
            to these. By default all. No other is decoded.
        scaled: Give real values, stored value × slope + intercept, of volumes that have a slope or
            an intercept in any subject: as float32, or float64 where that is stored. Other volumes
            keep their dtype. ``False`` gives stored values.
        augment: Random changes of every patch, ``voxquarry.Augment``. Where it may turn a patch out
            of a volume that has no padding, images are padded with the least value of the volume,
            labels with 0.
        dtype: ``"float32"`` or ``"float16"``: the type of all images. By default images that are
            augmented or normalized are float32. Labels keep their type.
        normalize: What images become before they are augmented: ``"zscore"``, with the mean and the
            standard deviation of the volume, which the store holds; or a window ``(low, high)``,
            whose ends become 0 and 1 and limit the values; or a mapping from volumes to these.

    Raises:
        UsageError: An argument outside of what it accepts; a batch larger than ``buffer_bytes``; a
            subject or volume that does not exist, or whose dtype or channels differ; subjects in
            which no patch can be drawn.
        DataError: Damaged metadata.
    """
    def __new__(
        cls,
        dataset: Dataset | ResampledDataset,
        sampler: _RandomSampler | GridSampler,
        volumes: str | Sequence[str] | None = None,
        patches_per_subject: int = 8,
        batch_size: int = 4,
        buffer_bytes: Bytes = "512MiB",
        shuffle: Shuffle = "global",
        seed: int = 0,
        rank: int = 0,
        world_size: int = 1,
        drop_last: bool = False,
        *,
        subjects: Sequence[str] | Mapping[str, int] | None = None,
        padding: Padding | Mapping[str, Padding] = None,
        window_bytes: Bytes = "1GiB",
        cache_bytes: Bytes | None = None,
        eviction: Eviction = "farthest",
        threads: int | None = None,
        scaled: bool = True,
        on_missing: OnMissing = "error",
        channels: Channels | Mapping[str, Channels] | None = None,
        augment: Augment | None = None,
        dtype: DTypeLike | None = None,
        normalize: Normalize | Mapping[str, Normalize] | None = None,
    ) -> Queue: ...
    @property
    def missing(self) -> dict[str, str]:
        """The subjects in which the sampler can draw no patch, each with the reason: those that
        ``on_missing`` leaves out, or whose patches are drawn anywhere.
        """
    @property
    def dataset(self) -> Dataset | ResampledDataset:
        """The dataset that is read."""
    @property
    def sampler(self) -> _RandomSampler | GridSampler:
        """The sampler that chooses the patches."""
    @property
    def volumes(self) -> list[str]:
        """Names of the volumes that are read of every patch."""
    @property
    def patch_size(self) -> tuple[int, int, int]:
        """Voxels of a patch, ``(z, y, x)``."""
    @property
    def batch_size(self) -> int:
        """Patches in a batch."""
    @property
    def world_size(self) -> int:
        """Ranks that share each epoch."""
    @property
    def patches(self) -> int:
        """Patches of an epoch on this rank."""
    @property
    def epoch(self) -> int:
        """The epoch of the latest iteration, or of the next one if that was chosen or loaded."""
    def __len__(self) -> int: ...
    def __iter__(self) -> Iterator[dict[str, Any]]: ...
    def __setstate__(self, state: dict[str, Any], /) -> None: ...
    def set_epoch(self, epoch: int) -> None:
        """Chooses the epoch of the next iteration, with other patches in another order.

        Without it every iteration takes the next epoch, from 0 on. Choosing the epoch of a loaded
        state keeps its position, so a state may be loaded before or after.

        Args:
            epoch: 0 to 2**64 - 1.
        """
    def shard(self, num_shards: int, index: int) -> Iterator[dict[str, Any]]:
        """Reads the batches ``index``, ``index + num_shards``, … of those that iterating would give,
        so that several worker processes divide an epoch among themselves.

        The next shard is one of the same epoch, until ``set_epoch`` chooses another.

        A state that is taken during the iteration continues with the next batch of this shard.

        Args:
            num_shards: Number of shards, at least 1.
            index: Number of the shard. A number of ``num_shards`` or more leaves out the first
                batches of the shard ``index % num_shards``.
        """
    def update_weights(
        self,
        subjects: Mapping[str, float] | None = None,
        chunks: Mapping[str, ArrayLike] | None = None,
        *,
        epoch: int | None = None,
        position: int | None = None,
    ) -> None:
        """Draws patches by weights that training chose, such as the loss of each chunk: from the next
        epoch on, or from a position on.

        What is given replaces earlier weights from there on; with neither argument, patches come as
        without weights. The weights, and where they begin, are part of ``state_dict``. Patches stay
        the same on any number of threads; on several ranks, give all of them the same weights. A
        loader with worker processes follows them from its next iteration on.

        Args:
            subjects: Weights by name; others weigh 1. The subject of each patch is drawn, with
                replacement, by its number of patches times its weight. Without it each patch of the
                epoch comes once.
            chunks: Arrays ``(z, y, x)`` by name of the subject, with a weight for each chunk of the
                volume that the sampler draws by, the label map or the weights, otherwise of the
                queue's first volume (see ``Volume.chunks``). A centre, ``start + patch_size // 2``,
                is as likely as the sampler makes it, times the weight of its chunk; for a
                ``LabelSampler`` within each class. Subjects that are not named are drawn as before.
            epoch: The epoch in which the weights begin; by default the next one, or with
                ``position`` the present one.
            position: The position in it, over all ranks, as in ``state_dict``; 0 by default.
                Batches that were read ahead of it are read again.

        Raises:
            UsageError: A subject that the queue does not read; weights that are negative, not
                finite, all zero or of another shape; a position that was passed; weights of chunks
                with a ``GridSampler`` or ``ObjectSampler``, any weights with ``min_distance``.
        """
    def state_dict(self) -> dict[str, Any]:
        """The position after the last delivered batch, or the start of the next epoch once a loop has
        ended: a small dictionary of numbers and strings, and the weights of ``update_weights``.

        It is the same on every rank, and may be loaded on any rank; also on another number of
        ranks, if that divides the position.
        """
    def start_state(self) -> dict[str, Any]:
        """The state at which the next iteration starts: the last loaded state if nothing has been read
        since, otherwise the start of the chosen or the next epoch.
        """
    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Lets the next iteration start with the patch that was due when the state was taken.

        A state that was taken at the last batch, before the loop ended, gives an empty iteration,
        and then the next epoch.

        Args:
            state_dict: The result of ``state_dict``, in any process, of a queue with the same
                arguments; memory, threads, rank and batch size may differ.

        Raises:
            UsageError: A state of another queue, or no state at all.
        """
    def stats(self) -> _QueueStats:
        """Counters since the queue was made; they show whether reading or the model is the bottleneck.

        Returns:
            ``patches``, ``batches``, ``voxel_bytes``: delivered. ``seconds``: from the start of
            each iteration to its last batch. ``patches_per_second``. ``stall_seconds``: the part of
            ``seconds`` spent waiting for a batch. ``decode_seconds``: the time that all ``threads``
            together took to fetch, decode and copy voxels. ``cache_hits``: chunks found decoded in
            the cache. ``chunks_decoded``, and ``bytes_read``: their bytes in the store.
        """

@final
class Aggregator:
    """Blends the overlapping patches of a grid into one array, or into a volume of a store.

    Patches may be added in any order and from any thread; each patch of the grid counts once, with
    ``replace`` its last. In the grid's own order, memory is one layer of patches.

    Where all patches have the same value, the result has it too, bit for bit, for integers of up to
    32 bits, float16 and float32, with ±0, ±inf and subnormals. NaN gives a NaN, perhaps with other
    bits. Sums are float64, so the last bits of float64, and of 64-bit integers above 2**44, may
    differ, by about as many units in the last place as patches overlap. 64-bit integers above 2**53
    are rounded first, and float64 near its largest may overflow. The weights of a custom window,
    their products and sums have to stay in the normal range of float64. ``"crop"`` has no sums: of
    the same dtype, every voxel is copied.

    Args:
        grid: The sampler that gives the patches.
        subject: What the grid covers: a subject, a volume, or extents ``(z, y, x)``.
        channels: Channels of every patch; ``None`` if the result has no channel axis.
        dtype: Dtype of the result; integers are rounded half to even and saturate. By default
            float32, or uint8 (uint16 for more than 256 channels) for a ``finish`` that gives whole
            numbers.
        window: Weights of a patch's voxels: ``"hann"``, ``"average"``, ``"crop"`` (one patch a
            voxel: TorchIO's three), ``"gaussian"`` (MONAI's), ``("gaussian", s)`` with MONAI's
            ``sigma_scale``, a number or three ``(z, y, x)``, ``"gaussian-nnunet"``, or three arrays
            of positive weights, one for each axis ``(z, y, x)``, whose product is the window.
        out: ``"STORE/SUBJECT/VOLUME"`` to write a volume, which is never in memory as a whole;
            ``None`` for an array. The store and the subject are created if necessary; nothing is
            visible before ``finish``.
        memory_bytes: Memory for unfinished voxels, an int or a string such as ``"1GiB"``; beyond it
            a scratch file is used. An array that is the result does not count.
        finish: What happens to blended voxels before they are stored. ``"none"``: only the cast.
            ``"argmax"``: the number of the channel with the largest value, the first of equal ones;
            the result has no channel axis, and the channels never exist as a whole volume.
            ``"softmax+argmax"``: each patch's channels become probabilities first. ``"threshold"``,
            or ``("threshold", t)``: 1 where the value is at least ``t`` (0.5), else 0.
            ``("quantize", slope, intercept)``: the nearest whole number of steps, ``(value -
            intercept) / slope``; a stored volume records slope and intercept.
        threads: Threads that blend and encode; all cores by default.
        scale: Voxels of the patches to be added for each voxel of the grid: a number, or three
            ``(z, y, x)``; each a whole number or one divided by one (``0.5``: the model halves the
            resolution). The result has that resolution; starts remain those of the grid.
        nonfinite: ``"keep"`` blends NaN and infinite values like any other. ``"warn"`` does too,
            and one warning says where the first NaN is. ``"error"`` refuses the patch.
        resume: With ``out``: unfinished work stays when the process ends, however it ends, and an
            aggregator with the same arguments continues it: ``needed`` lists the patches that are
            still to be computed. A text instead of ``True``, such as the model's name, is one more
            argument that has to be the same. Without it, earlier unfinished work is discarded.
        replace: A patch replaces an earlier one of the same location instead of being refused; in
            one call of ``add`` the last counts. The result is that of the last patches alone,
            added in the grid's order, bit for bit. All patches are stored as they were added, in
            memory up to ``memory_bytes`` and on the disk beyond it, and ``finish`` blends them:
            with half an overlap they are eight times the result. Not with ``resume``.
        merge: How the values of overlapping patches become one: ``"mean"``, weighted by the window;
            ``"max"`` or ``"min"``, whatever the window; ``"vote"``: the class with the greatest sum
            of the window's weights, the smallest of equal ones. Votes are whole numbers up to
            2**24; with ``finish="argmax"`` each patch votes for its largest channel.
        mask: A boolean array ``(z, y, x)`` of the grid's volume: the voxels that are predicted.
            Patches without any of them are not missing.
        skipped: ``(n, 3)`` starts of patches that never come.
        outside: The value of voxels that are not predicted, as the result shows it.
        part: ``(i, n)`` with ``out``: only the shards of part i of n are written, ``needed`` lists
            the patches that count for them, and ``finish`` returns ``None``. A part stays and is
            continued as with ``resume``. :func:`finalize` makes the volume of all parts, which is
            byte for byte that of one aggregator. All are to be given the same arguments.

    Raises:
        UsageError: Invalid arguments; ``"crop"`` of an odd overlap; a volume that exists;
            unfinished work, or another part, that was begun with other arguments.
        StorageError: The store cannot be written.
    """
    def __new__(
        cls,
        grid: GridSampler,
        subject: Subject | Volume | ScaledVolume | Sequence[int],
        channels: int | None = 1,
        dtype: DTypeLike = "float32",
        window: Window = "hann",
        out: Path | None = None,
        memory_bytes: Bytes = "1GiB",
        finish: Finish = "none",
        threads: int | None = None,
        scale: float | Sequence[float] = 1,
        nonfinite: NonFinite = "keep",
        resume: bool | str = False,
        replace: bool = False,
        merge: Merge = "mean",
        mask: ArrayLike | None = None,
        skipped: ArrayLike | None = None,
        outside: float = 0.0,
        part: tuple[int, int] | None = None,
    ) -> Aggregator: ...
    @property
    def missing(self) -> int:
        """How many patches are missing."""
    @property
    def shape(self) -> tuple[int, ...]:
        """Extents of the result, ``(z, y, x)`` or ``(c, z, y, x)``."""
    @property
    def dtype(self) -> np.dtype[Any]:
        """Element type of the result, a ``numpy.dtype``."""
    @property
    def box_size(self) -> tuple[int, int, int]:
        """Extents ``(z, y, x)`` of the boxes that ``put`` takes."""
    def put(self, voxels: ArrayLike, start: _Start) -> None:
        """Takes finished voxels that were blended elsewhere, as on a GPU.

        Patches all of whose voxels are finished then are no longer missing. What an earlier run has
        written is left alone, and what ``mask`` excludes becomes ``outside``.

        Args:
            voxels: ``(c, z, y, x)``, or ``(z, y, x)`` where the result has no channel axis: of the
                result's dtype, C-contiguous, and whole boxes of ``box_size``, cut off at the
                result's end.
            start: Where they begin in the result, ``(z, y, x)``.

        Raises:
            UsageError: Another shape, dtype or place, or an aggregator with ``replace``: nothing is
                taken.
            StorageError: As for ``add``.
        """
    def axis_weights(
        self,
    ) -> tuple[list[tuple[list[int], list[tuple[int, int]], list[float]]], float]:
        """How patches count along each axis ``(z, y, x)`` of the result, for blending elsewhere.

        Returns:
            Three tuples and a number. Each tuple has the first voxel of each patch, which may lie
            outside of the result; the range ``(start, end)`` of the voxels that each patch counts
            for; and the weight of each voxel of a patch. A voxel's weight is the product over the
            axes, and at least the number.
        """
    def add(self, patches: ArrayLike, starts: _Start | Sequence[_Start]) -> None:
        """Adds patches.

        Args:
            patches: ``(n, c, z, y, x)`` voxels, or ``(c, z, y, x)`` for one patch; with one channel
                the axis ``c`` may be left out. Any dtype of a volume, bool or bfloat16; numpy
                arrays and CPU tensors, which are read in place if they are C-contiguous.
            starts: Where the patches begin: ``(n, 3)`` integers ``(z, y, x)`` as the grid gave
                them, or three for one patch.

        Raises:
            UsageError: Another shape or dtype, a start off the grid, a patch that was added before
                (except with ``replace``), or a call after ``finish``: nothing is added.
            StorageError: The disk is full or fails, and the result cannot be completed. With
                ``resume``, another aggregator with the same arguments continues the work once
                there is space. With ``replace``, nothing is added and the same patches may be added
                again.
        """
    def has(self, start: _Start) -> bool:
        """Whether the patch that begins at ``start``, ``(z, y, x)``, was added, or is unneeded
        because an earlier run has written its voxels.
        """
    def needed(self) -> NDArray[np.int64]:
        """Starts of the missing patches in the grid's order; in a resumed run, those to compute.

        Returns:
            ``(n, 3)`` int64, ``(z, y, x)``.
        """
    def finish(self) -> Any:
        """Completes and returns the result; the aggregator takes no patches afterwards.

        Returns:
            A ``(c, z, y, x)`` array, ``(z, y, x)`` for ``channels=None`` and for labels; or the
            volume at ``out``; ``None`` for a part.

        Raises:
            UsageError: Patches are missing, which can still be added; or it was finished before.
            StorageError: The volume cannot be published, or, with ``replace``, patches cannot be
                blended.
        """
    def close(self) -> None:
        """Releases unfinished work, as when the last reference goes: with ``resume`` it stays, and
        an aggregator with the same arguments continues it; otherwise it is removed. A finished
        result is not affected.
        """

def finalize_volume(out: str) -> Volume:
    """Joins the parts of the volume at `out`, `STORE/SUBJECT/VOLUME`, and opens it."""

def discard_volume_parts(out: str) -> int:
    """Removes the unfinished parts of the volume at `out`, and returns how many there were."""

def write_components(
    volume: Volume,
    out: str | None,
    join: str,
    blocks: Size | None,
    connectivity: int,
    min_voxels: int,
    largest: int | None,
    dtype: DTypeLike | None,
    block_size: Size | None,
    memory_bytes: Bytes,
    threads: int | None,
    part: tuple[int, int] | None,
    progress: Callable[[int, int], None],
) -> Any:
    """Finds the objects of a volume, and writes their numbers to an array, a volume or a part of one;
    of ``blocks``, those of ids that are local to a block.
    """

def picture(
    volume: Volume,
    at: str | None = None,
    window: str | None = None,
    convention: str | None = None,
    labels: bool = True,
) -> bytes:
    """Draws three slices of a volume, as ``voxquarry preview`` does without patches.

    Returns:
        The bytes of a PNG file.
    """

def run_command(arguments: Sequence[str]) -> int:
    """Runs a command that is Rust's with its arguments, the first of which is its name.

    Returns:
        The exit code.
    """

def byte_count(value: Bytes) -> int:
    """Bytes as an int or a string with a unit, such as ``"1GiB"``."""

def open(
    path: Path,
    *,
    cache_bytes: Bytes | None = None,
    threads: int | None = None,
    verify: Verify = "first",
    access: Access = "map",
    follow_links: bool = False,
    level: int = 0,
    cache_dir: Path | None = None,
    cache_disk_bytes: Bytes | None = None,
) -> Dataset:
    """Opens the store at ``path`` for reading; nothing of a volume is read yet.

    A store on a server is opened by its URL: ``https://…``, ``s3://BUCKET/…``, ``gs://…`` or
    ``az://…``. What a read needs is fetched in exact byte ranges, checked, and kept on this
    machine's disk. Credentials come from the environment. ``docs/remote.md`` has more.

    Args:
        path: The store's folder, or its URL.
        cache_bytes: Budget of the cache of decoded chunks, an int or a string such as ``"256MiB"``;
            0 for none.
        threads: Threads that decode; all cores by default.
        verify: When a chunk's checksum is compared: ``"first"`` decode, ``"always"`` or
            ``"never"``.
        access: ``"map"`` (memory map) or ``"read"`` (positioned reads, for network file systems).
        follow_links: Whether symbolic links in the store are followed, also out of it; they are
            refused by default.
        level: The level of all volumes, as ``Volume.level`` gives it: samplers, queues and
            inference then work at that resolution. 0 is the full one; others are there if
            ``ingest`` was called with ``levels``.
        cache_dir: Of a URL: the folder, on a local disk, that keeps what was fetched; by default
            ``voxquarry/remote`` in the user's folder for caches. Processes may share it.
        cache_disk_bytes: The bytes that this folder may take, an int or a string; ``"10GiB"`` by
            default. The shards that were not used for longest are dropped first.

    Raises:
        PathNotFoundError: There is nothing at that path; a ``UsageError`` and a
            ``FileNotFoundError``.
        UsageError: No store, or an argument with a value that is not accepted.
        DataError: Damaged metadata, or a store that needs a newer version.
        StorageError: The server, the network or the cache's disk refuses.
    """

def dataset(
    subjects: Mapping[str, Mapping[str, Volume]],
    *,
    cache_bytes: Bytes | None = None,
    threads: int | None = None,
) -> Dataset:
    """Makes a data set of open volumes, which need not be of one store, for samplers and queues.

    Args:
        subjects: A mapping from names of subjects to mappings from names to volumes, of stores or
            of ``open_zarr``: ``{"case01": {"ct": ct, "seg": store["case01"]["seg"]}}``. The volumes
            of a subject lie on one grid.
        cache_bytes: By default what a queue caches of decoded chunks, an int or a string such as
            ``"256MiB"``; every volume keeps the cache that it was opened with.
        threads: Threads that draw samples and read queues; all cores by default.

    Returns:
        A ``Dataset``. It is pickled as its volumes.

    Raises:
        UsageError: Something else than volumes, names that no subject or volume can have, or
            volumes of a subject on different grids.
    """

def open_zarr(
    path: Path,
    axes: str | Sequence[str] | None = None,
    *,
    kind: Kind | None = None,
    cache_bytes: Bytes | None = None,
    threads: int | None = None,
    follow_links: bool = False,
) -> Volume:
    """Opens any array of Zarr (version 2 or 3), or an image or labels of OME-Zarr, as a volume,
    without ingesting it.

    The volume is read as those of a store are: ``read``, ``read_batch``, indexing, ``read_affine``,
    ``at``, samplers, queues and ``infer`` work on it, as fast as its chunks allow. Its ``subject``
    has the name of the file, as ``ingest`` would give it, and ``subject.dataset`` is a data set of
    this volume alone; :func:`voxquarry.dataset` puts volumes together. Chunks that are not there
    have the fill value, as Zarr has it. Statistics, counts of labels and sums of weights are not
    stored: what needs them reads the array once.

    Args:
        path: The folder of the array, or of a group that holds one image; the largest level of a
            pyramid is opened, or the one whose path it is.
        axes: The names of the array's axes, ``"czyx"`` or a list: ``x`` and ``y``, perhaps ``z``
            and ``c``, in any order, and others of one element. By default those that OME-Zarr or
            the array itself names; otherwise the last three are ``z``, ``y``, ``x``, and one of
            several elements before them has channels. What is read is ``(z, y, x)`` or
            ``(c, z, y, x)``, whatever the order.
        kind: ``"image"`` or ``"labels"``; by default an image, unless OME-Zarr calls it labels.
        cache_bytes: Budget of the cache of decoded chunks, an int or a string such as ``"256MiB"``;
            0 for none.
        threads: Threads that decode; all cores by default.
        follow_links: Whether symbolic links below ``path`` are followed; they are refused by
            default.

    Returns:
        A ``Volume``. It is pickled as its path and these options.

    Raises:
        PathNotFoundError: There is nothing at that path.
        UsageError: A store, a group of several volumes, codecs that are not known, or axes that do
            not fit.
        DataError: Damaged metadata; chunks that are damaged, when they are read.
    """

def _zarr_dataset(
    path: Path,
    axes: str | Sequence[str] | None = None,
    kind: Kind | None = None,
    cache_bytes: Bytes | None = None,
    threads: int | None = None,
    follow_links: bool = False,
) -> Dataset: ...
def list_subjects(path: Path) -> None:
    """Writes the list of a store's subjects into its ``zarr.json``, so that an HTTP server can serve
    the store: such a server lists no folders.

    ``ingest`` does so at its end. It is needed for stores that were made otherwise, and after a
    subject's folder was removed by hand.

    Args:
        path: The store's folder.

    Raises:
        PathNotFoundError: There is nothing at that path.
        UsageError: No store, or one of more than 100,000 subjects.
        StorageError: The store cannot be written.
    """

def verify(path: Path, progress: VolumeProgress | None) -> VerifyReport:
    """Checks a whole store, for `voxquarry.verify`."""

def export(
    volume: Volume,
    out: Path,
    *,
    overwrite: bool = False,
    progress: VolumeProgress | None = None,
) -> None:
    """Writes a volume to a file, for `voxquarry.export`."""

def fingerprint(
    dataset: Dataset,
    volumes: Sequence[str],
    labels: str | None,
    progress: VolumeProgress | None,
) -> str:
    """Measures a dataset for `voxquarry.fingerprint`; the answer is JSON."""

def plan_ingest(
    paths: Sequence[str] | None,
    rows: Sequence[tuple[str | None, str, str, str | Voxels]],
    out: str,
    patch_size: Size | Sequence[Size],
    codec: Codec,
    memory_bytes: Bytes,
    threads: int | None,
    existing: Literal["refuse", "skip", "overwrite"],
    choices: IngestChoices,
    plan: str,
) -> tuple[list[str], list[str], list[tuple[str, str, str, str]], list[str]]:
    """Makes a plan, writes it to `plan`, and lets the store at `out` wait for its parts. What was done
    is what was taken over from another plan.
    """

def run_ingest_plan(
    plan: str | None,
    out: str | None,
    part: tuple[int, int] | None,
    threads: int | None,
    progress: VolumeProgress | None,
) -> tuple[str, tuple[list[str], list[str], list[tuple[str, str, str, str]], list[str]]]:
    """Ingests a part of the plan at `plan`, or of the one that the store at `out` waits for; without
    a `part`, publishes all. Returns the store, and what was done.
    """

def ingest(
    paths: Sequence[str] | None,
    rows: Sequence[tuple[str | None, str, str, str | Voxels]],
    out: str,
    patch_size: Size | Sequence[Size],
    codec: Codec,
    memory_bytes: Bytes,
    threads: int | None,
    existing: Literal["refuse", "skip", "overwrite"],
    choices: IngestChoices,
    progress: VolumeProgress | None,
) -> tuple[list[str], list[str], list[tuple[str, str, str, str]], list[str]]:
    """Converts sources for `voxquarry.ingest`, which opens the store afterwards: `paths`, or `rows`."""
