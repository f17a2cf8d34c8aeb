//! The fuzzer: runs the target that the environment variable `FUZZ_TARGET` names.
#![no_main]

use std::sync::LazyLock;

use voxquarry_fuzz::{Target, target};

static TARGET: LazyLock<Target> = LazyLock::new(|| {
    let name = std::env::var("FUZZ_TARGET").expect("FUZZ_TARGET names a target");
    target(&name).expect("FUZZ_TARGET is in the list of targets")
});

libfuzzer_sys::fuzz_target!(|data: &[u8]| TARGET(data));
