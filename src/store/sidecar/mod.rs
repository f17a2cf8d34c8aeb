//! Files beside a volume's voxels that describe its chunks.

pub(crate) mod label_counts;
pub(crate) mod label_counts_writer;
pub(crate) mod nifti_header;
pub(crate) mod weight_sums;
