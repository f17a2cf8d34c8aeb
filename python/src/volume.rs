//! `Volume`, which reads voxels as they are stored.

use std::collections::BTreeMap;

use numpy::PyArray2;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};
use voxquarry::format::attributes::Kind;
use voxquarry::{Order, Padding};

use crate::arguments::{level_number, start};
use crate::errors::raise;
use crate::pickle::{Reduced, getitem};
use crate::resample::{Resampled, border, order};
use crate::resampled::ResampledVolume;
use crate::scaled::ScaledVolume;
use crate::voxels::{Reader, RealDtype, Values};

/// A volume, opened for reading.
///
/// Reads give stored values. ``scaled`` reads real values, stored value × ``slope`` +
/// ``intercept``.
#[pyclass(frozen, module = "voxquarry")]
pub(crate) struct Volume(pub(crate) voxquarry::Volume, pub(crate) Py<PyAny>);

#[pymethods]
impl Volume {
    /// The subject that it belongs to.
    #[getter]
    fn subject(&self, py: Python<'_>) -> Py<PyAny> {
        self.1.clone_ref(py)
    }

    /// Extents as numpy shows them: ``(z, y, x)`` or ``(c, z, y, x)``.
    #[getter]
    fn shape<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        PyTuple::new(py, self.0.shape())
    }

    /// 16 hexadecimal digits that depend on all voxels and metadata of the volume: volumes of
    /// different content have different ones. Those of a foreign array depend on its place and its
    /// metadata alone.
    #[getter]
    fn content_id(&self) -> String {
        format!("{:016x}", self.0.content_id())
    }

    /// Number of axes, 3 or 4.
    #[getter]
    fn ndim(&self) -> usize {
        self.0.shape().len()
    }

    /// Element type, a ``numpy.dtype``.
    #[getter]
    fn dtype<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        py.import("numpy")?.call_method1("dtype", (self.0.dtype().name(),))
    }

    /// The unit of ``affine`` and ``spacing``: ``"millimeter"`` unless the source states
    /// ``"micrometer"`` or ``"meter"``.
    #[getter]
    fn unit(&self) -> &'static str {
        self.0.unit().name()
    }

    /// Distances between voxels along ``(z, y, x)``, in ``unit``.
    #[getter]
    fn spacing(&self) -> (f64, f64, f64) {
        let [z, y, x] = self.0.spacing();
        (z, y, x)
    }

    /// ``(4, 4)`` float64: voxel index ``(x, y, z, 1)`` to RAS+ positions in ``unit``, as
    /// nibabel's.
    #[getter]
    fn affine<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyArray2<f64>>> {
        let rows: Vec<Vec<f64>> = self.0.affine().0.iter().map(|row| row.to_vec()).collect();
        Ok(PyArray2::from_vec2(py, &rows)?)
    }

    /// Real value = stored value × slope + intercept.
    #[getter]
    fn slope(&self) -> f64 {
        self.0.slope_intercept().0
    }

    /// See ``slope``.
    #[getter]
    fn intercept(&self) -> f64 {
        self.0.slope_intercept().1
    }

    /// ``"image"`` or ``"labels"``.
    #[getter]
    fn kind(&self) -> &'static str {
        self.0.kind().name()
    }

    /// What ingest changed of the voxels of the source, and what the source was; ``None`` if it
    /// changed nothing.
    #[getter]
    fn changes<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        let changes = self.0.source().and_then(|source| source.origin.get("changes"));
        let parsed =
            changes.map(|changes| py.import("json")?.call_method1("loads", (changes.to_string(),)));
        parsed.transpose()
    }

    /// The names of single labels by their ids, ``{1: "liver"}``; empty if nobody named them.
    #[getter]
    fn label_names(&self) -> BTreeMap<i64, String> {
        let single = self.0.labels().iter().filter(|label| label.ids.len() == 1);
        single.map(|label| (label.ids[0], label.name.clone())).collect()
    }

    /// The ids of each name that stands for several labels, ``{"whole tumor": (1, 2, 3)}``.
    #[getter]
    fn label_regions<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let regions = PyDict::new(py);
        for label in self.0.labels().iter().filter(|label| label.ids.len() > 1) {
            regions.set_item(&label.name, PyTuple::new(py, &label.ids)?)?;
        }
        Ok(regions)
    }

    /// The colours of single labels by their ids, ``{1: "#ff0000"}``.
    #[getter]
    fn label_colors(&self) -> BTreeMap<i64, String> {
        let single = self.0.labels().iter().filter(|label| label.ids.len() == 1);
        single.filter_map(|label| Some((label.ids[0], label.color.clone()?))).collect()
    }

    /// Whether it is no volume of a store, but an array of Zarr that ``open_zarr`` opened.
    #[getter]
    fn is_foreign(&self) -> bool {
        self.0.is_foreign()
    }

    /// Whether it is of a store behind a URL.
    #[getter]
    fn is_remote(&self) -> bool {
        self.0.is_remote()
    }

    /// Its name in the subject.
    #[getter]
    fn name(&self) -> &str {
        self.0.name()
    }

    /// Extents of the chunks that voxels are stored in, ``(z, y, x)``.
    #[getter]
    fn chunks(&self) -> (usize, usize, usize) {
        let [z, y, x] = self.0.layout().chunk;
        (z, y, x)
    }

    /// The patch sizes that the chunks were chosen for at the ingest, each ``(z, y, x)``; a foreign
    /// array was made for none.
    #[getter]
    fn patch_sizes<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        let sizes = &self.0.attributes().patch_sizes;
        PyTuple::new(py, sizes.iter().map(|&[z, y, x]| (z, y, x)))
    }

    /// Statistics of the stored values: ``voxels``, ``non_finite``, ``min``, ``max``, ``mean`` and
    /// ``std``; the last four are ``None`` where no voxel is finite. Those of a foreign array are
    /// computed at first use, by reading it once.
    #[getter]
    fn stats<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let statistics = py.detach(|| self.0.known_statistics()).map_err(raise)?;
        let json = serde_json::to_string(&statistics).expect("statistics serialise");
        py.import("json")?.call_method1("loads", (json,))
    }

    /// The number of voxels of each label except 0: a dictionary, empty for images. All voxels are
    /// read where ``has_label_counts`` is false.
    #[getter]
    fn labels<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let labels = PyDict::new(py);
        if self.0.kind() == Kind::Labels {
            for (label, voxels) in py.detach(|| self.0.label_counts()).map_err(raise)?.totals() {
                labels.set_item(label, voxels)?;
            }
        }
        Ok(labels)
    }

    /// Whether the store holds the voxels of each label, so that ``labels`` reads none. It does not
    /// for images, levels, foreign arrays, and label maps of very many labels.
    #[getter]
    fn has_label_counts(&self) -> bool {
        // A level and a foreign array have no checksum of counts.
        self.0.attributes().summary_crc32c.is_some()
    }

    /// The volume as real values: a ``ScaledVolume``.
    #[getter]
    fn scaled(slf: &Bound<'_, Self>) -> ScaledVolume {
        ScaledVolume::of(slf, None)
    }

    /// The factors of each level along ``(z, y, x)``: how many voxels of level 0 one of the level
    /// covers. The first is ``(1, 1, 1)``; others are there if ``ingest`` was called with
    /// ``levels``. A level has only itself.
    #[getter]
    fn levels<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        PyTuple::new(py, self.0.levels().into_iter().map(|[z, y, x]| (z, y, x)))
    }

    /// Which level of its volume it is; 0 for the volume itself.
    #[getter]
    fn level_number(&self) -> usize {
        self.0.level_number()
    }

    /// The volume at a level.
    ///
    /// It is a ``Volume``: ``shape``, ``spacing``, ``affine``, ``stats`` and voxels are the
    /// level's, all else is the volume's, but for the ``changes`` of its source. For samplers and
    /// queues at a level, open the data set there: ``vq.open(path, level=1)``.
    ///
    /// Args:
    ///     level: 0 for the volume itself, 1 for the next coarser level, and so on; ``levels``
    ///         lists them.
    ///
    /// Raises:
    ///     UsageError: There is no such level; the message names those that are there.
    ///     DataError: Damaged metadata of the level.
    fn level(&self, py: Python<'_>, level: i64) -> PyResult<Self> {
        let level = level_number(level)?;
        let found = py.detach(|| self.0.level(level)).map_err(raise)?;
        Ok(Self(found, self.1.clone_ref(py)))
    }

    /// Reads the patch of ``size`` that begins at ``start``.
    ///
    /// Args:
    ///     start: First voxel, ``(z, y, x)``; may be negative where a padding is given.
    ///     size: An int for a cube, or ``(z, y, x)``.
    ///     out: C-contiguous array of the volume's dtype and the result's shape; it is filled and
    ///         returned.
    ///     padding: What lies outside: ``None`` (an error), a number, ``"edge"`` or ``"reflect"``
    ///         (numpy's).
    ///     channels: The channels to read, an int or a list, in this order; no other is decoded.
    ///     scaled: Give real values, as ``volume.scaled`` does; a number as ``padding`` is one,
    ///         too. By default stored values.
    ///
    /// Returns:
    ///     ``(z, y, x)`` or ``(c, z, y, x)`` voxels; always ``(c, z, y, x)`` if ``channels`` are
    ///     given.
    ///
    /// Raises:
    ///     UsageError: An argument with a value that is not accepted; ``out`` is untouched.
    ///     DataError: Damaged chunks.
    #[pyo3(signature = (start, size, out=None, padding=None, channels=None, scaled=false))]
    #[allow(clippy::too_many_arguments)] // The keywords of Python.
    fn read<'py>(
        &self,
        #[pyo3(from_py_with = start)] start: [i64; 3],
        size: &Bound<'py, PyAny>,
        out: Option<&Bound<'py, PyAny>>,
        padding: Option<&Bound<'py, PyAny>>,
        channels: Option<&Bound<'py, PyAny>>,
        scaled: bool,
    ) -> PyResult<Bound<'py, PyAny>> {
        self.reader_of(scaled).patch(start, size, out, padding, channels)
    }

    /// Reads one patch of ``size`` for each of ``starts``. A chunk is decoded once for all patches
    /// that it overlaps.
    ///
    /// Args:
    ///     starts: ``(n, 3)`` integers, ``(z, y, x)``.
    ///     size, out, padding, channels, scaled: As for ``read``.
    ///
    /// Returns:
    ///     ``(n, z, y, x)`` or ``(n, c, z, y, x)`` voxels; always ``(n, c, z, y, x)`` if
    ///     ``channels`` are given.
    #[pyo3(signature = (starts, size, out=None, padding=None, channels=None, scaled=false))]
    #[allow(clippy::too_many_arguments)] // The keywords of Python.
    fn read_batch<'py>(
        &self,
        starts: &Bound<'py, PyAny>,
        size: &Bound<'py, PyAny>,
        out: Option<&Bound<'py, PyAny>>,
        padding: Option<&Bound<'py, PyAny>>,
        channels: Option<&Bound<'py, PyAny>>,
        scaled: bool,
    ) -> PyResult<Bound<'py, PyAny>> {
        self.reader_of(scaled).batch(starts, size, out, padding, channels)
    }

    /// Begins to read the chunks of patches, and does not wait for them: from a disk into the
    /// system's page cache, from a server into the local cache.
    ///
    /// A later ``read_batch`` of these patches waits less. ``Queue`` and ``infer`` do so by
    /// themselves; a loop over a grid asks for the patches of its next batches.
    ///
    /// Args:
    ///     starts: ``(n, 3)`` integers, ``(z, y, x)``; what lies outside of the volume is left out.
    ///     size, channels: As for ``read_batch``.
    ///
    /// Raises:
    ///     UsageError: An argument with a value that is not accepted.
    ///     DataError, StorageError: A shard on a disk that cannot be opened. What is wrong with a
    ///         chunk, or goes wrong with a server, is the error of a later read.
    #[pyo3(signature = (starts, size, channels=None))]
    fn read_ahead(
        &self,
        starts: &Bound<'_, PyAny>,
        size: &Bound<'_, PyAny>,
        channels: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<()> {
        self.reader_of(false).ahead(starts, size, channels)
    }

    /// Reads a patch that is turned, scaled or bent: only the chunks that its voxels touch.
    ///
    /// ``docs/resampling.md`` defines every value.
    ///
    /// Args:
    ///     matrix: ``(3, 4)``, or ``(4, 4)`` with the last row 0 0 0 1: maps the index
    ///         ``(z, y, x, 1)`` of a voxel of the patch to an index ``(z, y, x)`` in the volume, in
    ///         voxels, from the centre of the first one.
    ///     patch_size: An int for a cube, or ``(z, y, x)``.
    ///     order: 0 for the nearest voxel, 1 for trilinear, 3 for cubic (Keys, a = -0.5). Labels
    ///         take 0 alone.
    ///     padding: What lies outside: a number, ``"edge"``, ``"reflect"``, or ``None`` (an error).
    ///     dtype: ``None`` is float32 for images and the volume's own for labels. Float types hold
    ///         real values, stored value × ``slope`` + ``intercept``, and so does the padding; an
    ///         image's own integer type holds stored values, rounded.
    ///     out: C-contiguous array of that dtype and the result's shape; it is filled and returned.
    ///     displacement: ``(3, kz, ky, kx)`` numbers that are added to the index, in voxels of the
    ///         volume along z, y, x; knot ``k`` of ``n`` lies at index ``k * size / (n - 1)`` of
    ///         the patch, and it is trilinear between knots.
    ///
    /// Returns:
    ///     ``(z, y, x)`` or ``(c, z, y, x)`` voxels.
    ///
    /// Raises:
    ///     UsageError: An argument with a value that is not accepted; ``out`` is untouched.
    ///     DataError: Damaged chunks.
    #[pyo3(
        signature = (matrix, patch_size, order=Order::Linear, padding=Padding::Constant(0.0),
                     dtype=None, out=None, displacement=None),
        text_signature = "($self, matrix, patch_size, order=1, padding=0, dtype=None, out=None, \
                          displacement=None)"
    )]
    #[allow(clippy::too_many_arguments)]
    fn read_affine<'py>(
        &self,
        matrix: &Bound<'py, PyAny>,
        patch_size: &Bound<'py, PyAny>,
        #[pyo3(from_py_with = order)] order: Order,
        #[pyo3(from_py_with = border)] padding: Padding,
        dtype: Option<&Bound<'py, PyAny>>,
        out: Option<&Bound<'py, PyAny>>,
        displacement: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        Resampled { volume: &self.0, patch_size, order, padding, dtype, out }
            .patch(matrix, displacement)
    }

    /// Reads one patch for each of ``matrices``, as ``read_affine``; threads share the patches.
    ///
    /// Args:
    ///     matrices: ``(n, 3, 4)`` or ``(n, 4, 4)``.
    ///     displacements: ``(n, 3, kz, ky, kx)``.
    ///     patch_size, order, padding, dtype, out: As for ``read_affine``.
    ///
    /// Returns:
    ///     ``(n, z, y, x)`` or ``(n, c, z, y, x)`` voxels.
    #[pyo3(
        signature = (matrices, patch_size, order=Order::Linear, padding=Padding::Constant(0.0),
                     dtype=None, out=None, displacements=None),
        text_signature = "($self, matrices, patch_size, order=1, padding=0, dtype=None, out=None, \
                          displacements=None)"
    )]
    #[allow(clippy::too_many_arguments)]
    fn read_affine_batch<'py>(
        &self,
        matrices: &Bound<'py, PyAny>,
        patch_size: &Bound<'py, PyAny>,
        #[pyo3(from_py_with = order)] order: Order,
        #[pyo3(from_py_with = border)] padding: Padding,
        dtype: Option<&Bound<'py, PyAny>>,
        out: Option<&Bound<'py, PyAny>>,
        displacements: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        Resampled { volume: &self.0, patch_size, order, padding, dtype, out }
            .batch(matrices, displacements)
    }

    /// The volume at another spacing and in another orientation, resampled as it is read.
    ///
    /// Args:
    ///     spacing: A number, or three for the ``(z, y, x)`` of the result, in ``unit``; ``None``
    ///         leaves it as it is.
    ///     orientation: The directions in which the axes ``(x, y, z)`` ascend, as nibabel's codes:
    ///         ``"RAS"``; ``None`` leaves them as they are.
    ///
    /// Returns:
    ///     A ``ResampledVolume``.
    ///
    /// Raises:
    ///     UsageError: A spacing that is not above 0, or an unknown orientation.
    #[pyo3(signature = (spacing=None, orientation=None))]
    fn at(
        slf: &Bound<'_, Self>,
        spacing: Option<&Bound<'_, PyAny>>,
        orientation: Option<String>,
    ) -> PyResult<ResampledVolume> {
        let of = slf.clone().into_any().unbind();
        ResampledVolume::new((&slf.get().0, of), spacing, orientation)
    }

    /// numpy basic indexing: ints, slices with any step, ``...``; only what is asked for is read.
    fn __getitem__<'py>(&self, index: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        self.reader().index(index)
    }

    fn __len__(&self) -> usize {
        self.0.shape()[0]
    }

    /// The whole volume as an array, for numpy functions and volumes that fit into memory.
    #[pyo3(signature = (dtype=None, copy=None))]
    fn __array__<'py>(
        &self,
        py: Python<'py>,
        dtype: Option<&Bound<'py, PyAny>>,
        copy: Option<bool>,
    ) -> PyResult<Bound<'py, PyAny>> {
        self.reader().array(py, dtype, copy)
    }

    fn __reduce__<'py>(&self, py: Python<'py>) -> PyResult<Reduced<'py, Bound<'py, PyTuple>>> {
        let (subject, name) = (self.1.clone_ref(py), self.0.name());
        Ok(match self.0.level_number() {
            0 => (getitem(py)?, (subject, name).into_pyobject(py)?),
            level => {
                let level_of = py.import("voxquarry._paths")?.getattr("level_of")?;
                (level_of, (subject, name, level).into_pyobject(py)?)
            }
        })
    }

    fn __repr__(&self) -> String {
        self.reader().describe("Volume")
    }

    /// Draws three slices in true proportion, with labels, their names, and the ends of the window.
    ///
    /// Args:
    ///     at: Where the slices meet: ``"middle"``, ``"labels"`` (where most of the subject's first
    ///         label map is), or a position ``(x, y, z)`` in the affine's RAS+ space.
    ///     window: The real values that are black and white: ``(low, high)``, or ``"lung"``,
    ///         ``"bone"``, ``"soft"`` or ``"brain"`` for CT. By default percentiles of the slices.
    ///     convention: ``"radiological"``: the patient's right is on the left;
    ///         ``"neurological"``: on the right.
    ///     labels: Whether the subject's first label map is drawn over an image.
    ///
    /// Returns:
    ///     A ``Picture``: notebooks show it, ``png`` has the bytes, ``save`` writes a file.
    ///
    /// Raises:
    ///     UsageError: An argument with a value that is not accepted, or a position outside of the
    ///         volume.
    ///     DataError: Damaged chunks.
    #[pyo3(signature = (at=None, window=None, convention="radiological", labels=true))]
    fn show<'py>(
        slf: &Bound<'py, Self>,
        at: Option<Bound<'py, PyAny>>,
        window: Option<Bound<'py, PyAny>>,
        convention: &str,
        labels: bool,
    ) -> PyResult<Bound<'py, PyAny>> {
        let module = slf.py().import("voxquarry._picture")?;
        module.call_method1("show", (slf, at, window, convention, labels))
    }

    fn _repr_html_<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        slf.py().import("voxquarry._html")?.call_method1("volume", (slf,))
    }
}

impl Volume {
    fn reader(&self) -> Reader<'_> {
        Reader { volume: &self.0, values: Values::Stored }
    }

    /// Reads real values if `scaled`.
    fn reader_of(&self, scaled: bool) -> Reader<'_> {
        let real = Values::Real(RealDtype::of(self.0.dtype()));
        Reader { volume: &self.0, values: if scaled { real } else { Values::Stored } }
    }
}
