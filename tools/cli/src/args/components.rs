//! The arguments of `voxquarry components`.

use std::path::PathBuf;
use std::str::FromStr;

use clap::Args;
use voxquarry::{Connectivity, Dtype, Part, Size3};
use voxquarry_ingest::parse_bytes;

use super::parse_patch;

#[derive(Args, Debug)]
#[command(after_help = "\
Voxels that are 0 are the background. Objects are numbered from 1 in the order of their first
voxels. The volume is read twice, and never in memory as a whole. Nothing is visible before the
result is complete; a run that is stopped leaves nothing, but for a part, which the same command
continues.

Examples:
  voxquarry components pred.zarr/case01/seg --out pred.zarr/case01/lesions --connectivity 26
  voxquarry components pred.zarr/case01/seg --out pred.zarr/case01/organs --equal-values --largest 5
  voxquarry components pred.zarr/case01/ids --out pred.zarr/case01/cells --block-ids 128")]
pub(crate) struct ComponentsArgs {
    /// STORE/SUBJECT/VOLUME of integers, without channels.
    pub(crate) volume: PathBuf,
    /// STORE/SUBJECT/VOLUME to write.
    #[arg(long)]
    pub(crate) out: PathBuf,
    /// How many neighbours touch a voxel: 6, 18 or 26.
    #[arg(long, value_name = "N", default_value = "6", value_parser = Connectivity::from_str)]
    pub(crate) connectivity: Connectivity,
    /// Keep voxels of different values apart, such as classes.
    #[arg(long)]
    pub(crate) equal_values: bool,
    /// The voxels are ids that were predicted in blocks of this size, each with ids of its own;
    /// objects that touch across blocks become one.
    #[arg(long, value_name = "P", value_parser = parse_patch, conflicts_with = "equal_values")]
    pub(crate) block_ids: Option<Size3>,
    /// Leave out objects with fewer voxels.
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub(crate) min_voxels: u64,
    /// Keep only so many objects, those with most voxels.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) largest: Option<u32>,
    /// Type of the labels; default: the smallest of uint8, uint16 and uint32 that holds them.
    #[arg(long, value_name = "T", value_parser = parse_dtype)]
    pub(crate) dtype: Option<Dtype>,
    /// Memory for boxes that are read and written, as in 500MB or 2GiB.
    #[arg(long, default_value = "1GiB", value_parser = parse_bytes)]
    pub(crate) memory: u64,
    /// Threads; default: one for each core.
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..))]
    pub(crate) threads: Option<u16>,
    /// Write part I of N of the result; `voxquarry finalize` joins them.
    #[arg(long, value_name = "I/N", value_parser = Part::from_str)]
    pub(crate) part: Option<Part>,
    /// Print the result as JSON.
    #[arg(long)]
    pub(crate) json: bool,
    /// Print nothing but errors.
    #[arg(long, short)]
    pub(crate) quiet: bool,
}

fn parse_dtype(name: &str) -> Result<Dtype, String> {
    Dtype::from_name(name).ok_or_else(|| "expected an integer type, as in uint32".to_owned())
}
