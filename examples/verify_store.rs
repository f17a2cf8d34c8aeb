//! Verifies every checksum, chunk and index of a store:
//! `cargo run --example verify_store -- STORE`.
//!
//! Without a path the example verifies a small synthetic store.

use std::error::Error;
use std::path::Path;
use std::process::ExitCode;

use voxquarry::{Result, VerifyReport};

mod phantom;

/// Prints how much of each volume is checked, then the errors.
pub(crate) fn verify(store: &Path) -> Result<VerifyReport> {
    let report = voxquarry::verify(store, &mut |step| {
        println!("{}: {} of {} bytes of voxels", step.volume, step.done, step.total);
        // An error would end the verification.
        Ok(())
    })?;
    println!("{} volumes, {} chunks, {} errors", report.volumes, report.chunks, report.error_count);
    // One damaged chunk does not hide another: each error names its file and what is wrong there.
    for error in &report.errors {
        println!("{error}");
    }
    Ok(report)
}

fn main() -> Result<ExitCode, Box<dyn Error>> {
    let store = phantom::ExampleStore::from_arguments()?;
    let report = verify(store.path())?;
    Ok(if report.error_count == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
