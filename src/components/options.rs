//! What counts as one object, and the memory for finding it.

use std::str::FromStr;

use crate::{Dtype, Error, Result, Size3};

/// The neighbours that touch a voxel.
///
/// ```
/// use voxquarry::Connectivity;
///
/// assert_eq!("26".parse::<Connectivity>()?, Connectivity::Corners);
/// assert_eq!(Connectivity::Faces.neighbours(), 6);
/// # Ok::<(), voxquarry::Error>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Connectivity {
    /// The 6 that share a face: 1 in scipy and scikit-image.
    #[default]
    Faces,
    /// The 18 that share a face or an edge: 2.
    Edges,
    /// The 26 that share a face, an edge or a corner: 3.
    Corners,
}

impl Connectivity {
    /// How many neighbours touch a voxel.
    pub fn neighbours(self) -> usize {
        [6, 18, 26][self.axes() - 1]
    }

    /// Axes along which a neighbour may differ.
    pub(super) fn axes(self) -> usize {
        match self {
            Self::Faces => 1,
            Self::Edges => 2,
            Self::Corners => 3,
        }
    }

    /// How far runs may be apart along x and still touch, in rows that differ along `axes` axes;
    /// `None` if such rows never touch.
    pub(super) fn reach(self, axes: usize) -> Option<usize> {
        (axes <= self.axes()).then(|| usize::from(axes < self.axes()))
    }
}

impl FromStr for Connectivity {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match text {
            "1" | "6" => Ok(Self::Faces),
            "2" | "18" => Ok(Self::Edges),
            "3" | "26" => Ok(Self::Corners),
            _ => Err(Error::invalid("connectivity", text, "6, 18 or 26; or 1, 2 or 3")),
        }
    }
}

/// What makes voxels one object. Voxels that are 0 are the background.
///
/// ```
/// use voxquarry::{ComponentOptions, Objects};
///
/// // Predicted in blocks of 128³ voxels, each with ids of its own.
/// let options = ComponentOptions::default().objects(Objects::BlockIds([128; 3]));
/// # let _ = options;
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Objects {
    /// They touch, whatever their values.
    #[default]
    Foreground,
    /// They touch and are equal, so that classes stay apart.
    EqualValues,
    /// They are equal and lie in one block of these extents, or they touch across a face of two
    /// blocks, whatever their values: the ids of a prediction that was made block by block. The
    /// first block begins at the first voxel.
    BlockIds(Size3),
}

/// How [`Components`](crate::Components) are found.
///
/// ```
/// use voxquarry::{ComponentOptions, Connectivity};
///
/// let options = ComponentOptions::default()
///     .connectivity(Connectivity::Corners)
///     .min_voxels(10)
///     .largest(Some(1));
/// # let _ = options;
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ComponentOptions {
    pub(super) objects: Objects,
    pub(super) connectivity: Connectivity,
    pub(super) min_voxels: u64,
    pub(super) largest: Option<usize>,
    pub(super) dtype: Option<Dtype>,
    pub(super) block_size: Option<Size3>,
    pub(super) memory_bytes: u64,
    pub(super) threads: Option<usize>,
}

impl Default for ComponentOptions {
    fn default() -> Self {
        Self {
            objects: Objects::default(),
            connectivity: Connectivity::default(),
            min_voxels: 1,
            largest: None,
            dtype: None,
            block_size: None,
            memory_bytes: 1 << 30,
            threads: None,
        }
    }
}

impl ComponentOptions {
    /// What makes voxels one object.
    #[must_use]
    pub fn objects(mut self, objects: Objects) -> Self {
        self.objects = objects;
        self
    }

    /// The neighbours that touch a voxel.
    #[must_use]
    pub fn connectivity(mut self, connectivity: Connectivity) -> Self {
        self.connectivity = connectivity;
        self
    }

    /// Objects with fewer voxels become background.
    #[must_use]
    pub fn min_voxels(mut self, voxels: u64) -> Self {
        self.min_voxels = voxels;
        self
    }

    /// Only so many objects stay, those with most voxels; of equal ones, those that come first.
    #[must_use]
    pub fn largest(mut self, objects: Option<usize>) -> Self {
        self.largest = objects;
        self
    }

    /// The type of the labels, an integer; `None`: the smallest of `uint8`, `uint16` and `uint32`
    /// that holds the number of objects.
    #[must_use]
    pub fn dtype(mut self, dtype: Option<Dtype>) -> Self {
        self.dtype = dtype;
        self
    }

    /// Extents of the boxes that are read one at a time; `None`: as many whole chunks as the memory
    /// allows. The result does not depend on them.
    #[must_use]
    pub fn block_size(mut self, size: Option<Size3>) -> Self {
        self.block_size = size;
        self
    }

    /// Memory for boxes that are read and written. The table of pieces, about 28 bytes for each
    /// piece of an object in a box, comes on top, and so do the last planes, 8 bytes for each voxel
    /// of a plane.
    #[must_use]
    pub fn memory_bytes(mut self, bytes: u64) -> Self {
        self.memory_bytes = bytes;
        self
    }

    /// Threads that read, label and encode; `None`: as many as the volume is read with.
    #[must_use]
    pub fn threads(mut self, threads: Option<usize>) -> Self {
        self.threads = threads;
        self
    }

    /// # Errors
    /// [`Error::InvalidArgument`].
    pub(super) fn check(&self) -> Result<()> {
        let expected = "at least 1 for every axis";
        let blocks = match self.objects {
            Objects::BlockIds(blocks) => Some(blocks),
            _ => None,
        };
        for size in [self.block_size, blocks].into_iter().flatten() {
            if size.contains(&0) {
                return Err(Error::invalid("block_size", format!("{size:?}"), expected));
            }
        }
        if self.largest == Some(0) {
            return Err(Error::invalid("largest", 0, "None or at least 1"));
        }
        match self.dtype.filter(|dtype| dtype.is_float()) {
            Some(dtype) => Err(Error::invalid("dtype", dtype, "an integer type: labels are whole")),
            None => Ok(()),
        }
    }
}
