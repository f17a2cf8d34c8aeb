//! Reads patches with the zarrs crate and times itself; `systems_zarr.py` runs it.
//!
//! Usage: `zarrs-reader ARRAY THREADS`, then commands on standard input; numbers are little-endian
//! and have eight bytes.
//! - `t`, a count n, a patch's three extents, n triples of starts: reads all patches and answers
//!   with the nanoseconds.
//! - `g`, likewise with n = 1: answers with the patch's bytes.

use std::error::Error;
use std::io::{Read, Write, stdin, stdout};
use std::sync::Arc;
use std::time::Instant;

use zarrs::array::CodecOptions;
use zarrs::array::{
    Array, ArrayBytes, ArrayShardedReadableExt, ArrayShardedReadableExtCache, ArraySubset,
};
use zarrs::filesystem::FilesystemStore;

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let (Some(path), Some(threads)) = (arguments.next(), arguments.next()) else {
        return Err("usage: zarrs-reader ARRAY THREADS".into());
    };
    let array = Array::open(Arc::new(FilesystemStore::new(path)?), "/")?;
    let options = CodecOptions::default().with_concurrent_target(threads.parse()?);
    // The crate's fastest way: shard indices stay parsed.
    let indices = ArrayShardedReadableExtCache::new(&array);
    let patch = |start: [u64; 3], size: [u64; 3]| -> Result<ArrayBytes<'static>, Box<dyn Error>> {
        let region = ArraySubset::new_with_start_shape(start.to_vec(), size.to_vec())?;
        Ok(array.retrieve_array_subset_sharded_opt(&indices, &region, &options)?)
    };

    let (mut input, mut output) = (stdin().lock(), stdout().lock());
    let mut command = [0];
    while input.read(&mut command)? == 1 {
        let count = number(&mut input)?;
        let size = triple(&mut input)?;
        let starts = (0..count).map(|_| triple(&mut input)).collect::<Result<Vec<_>, _>>()?;
        if command == *b"g" {
            output.write_all(&patch(starts[0], size)?.into_fixed()?)?;
        } else {
            let begin = Instant::now();
            for start in starts {
                std::hint::black_box(patch(start, size)?);
            }
            output.write_all(&(begin.elapsed().as_nanos() as u64).to_le_bytes())?;
        }
        output.flush()?;
    }
    Ok(())
}

fn number(input: &mut impl Read) -> std::io::Result<u64> {
    let mut bytes = [0; 8];
    input.read_exact(&mut bytes)?;
    Ok(u64::from_le_bytes(bytes))
}

fn triple(input: &mut impl Read) -> std::io::Result<[u64; 3]> {
    Ok([number(input)?, number(input)?, number(input)?])
}
