//! Runs every target over its seeds, and over small changes of them, on any toolchain.

use std::fs;
use std::path::{Path, PathBuf};

use voxquarry_fuzz::TARGETS;

/// Changed copies of each seed.
const CHANGES: u64 = 24;

fn seeds(target: &str) -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("seeds").join(target);
    let files = fs::read_dir(&folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
    let mut files: Vec<_> = files.map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

/// A copy with a few bytes changed, removed, added, or taken from elsewhere.
fn changed(seed: &[u8], number: u64) -> Vec<u8> {
    let mut bytes = seed.to_vec();
    let mut state = number.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut below = |n: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (state >> 33) as usize % n.max(1)
    };
    for _ in 0..=below(4) {
        let at = below(bytes.len());
        match below(4) {
            0 => bytes.truncate(at),
            1 => bytes.insert(at, below(256) as u8),
            _ if bytes.is_empty() => {}
            2 => bytes[at] ^= 1 << below(8),
            _ => bytes[at] = below(256) as u8,
        }
    }
    bytes
}

#[test]
fn every_seed_is_survived() {
    for (name, target) in TARGETS {
        let files = seeds(name);
        assert!(files.len() >= 2, "{name} has seeds");
        for file in files {
            let seed = fs::read(&file).unwrap();
            assert!(seed.len() <= 8 << 10, "{}: a seed is small", file.display());
            // Said if the target panics.
            println!("{}", file.display());
            target(&seed);
            for number in 0..CHANGES {
                println!("{} changed, number {number}", file.display());
                target(&changed(&seed, number));
            }
        }
    }
}

#[test]
fn every_folder_of_seeds_has_a_target() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("seeds");
    for entry in fs::read_dir(folder).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        assert!(TARGETS.iter().any(|(known, _)| *known == name), "no target {name:?}");
    }
}
