//! Rules about unsafe code: it stays in listed files, and each use says who keeps its promise.

use super::tree::Findings;

/// The rooms that may be `unsafe`: maps, decoders, work that threads share, and writing to disjoint
/// parts of the caller's buffer.
pub(crate) const UNSAFE_ROOMS: [&str; 27] = [
    // Calls c-blosc, the oracle.
    "fuzz/src/frames.rs",
    // Lends a batch's memory to numpy.
    "python/src/batch_owner.rs",
    "src/aggregate/array_sink.rs",
    "src/array/gather.rs",
    "src/array/scatter.rs",
    "src/codec/lz4/copy.rs",
    "src/codec/lz4/decode.rs",
    "src/codec/lz4/plane_refs.rs",
    // Calls the LZ4 library, the oracle.
    "src/codec/lz4/reference.rs",
    "src/codec/planes.rs",
    "src/codec/shuffle/avx2.rs",
    "src/codec/shuffle/avx512.rs",
    "src/codec/shuffle/neon.rs",
    "src/codec/shuffle/partial.rs",
    "src/codec/shuffle/split_x86.rs",
    "src/codec/shuffle/v128.rs",
    "src/codec/strided.rs",
    "src/queue/buffer.rs",
    "src/resample/avx2.rs",
    "src/resample/patch.rs",
    "src/sys/isa.rs",
    "src/sys/mmap.rs",
    "src/sys/prefetch.rs",
    "src/sys/temp_map.rs",
    "src/sys/worker_pool.rs",
    // Calls c-blosc, the oracle.
    "tests/blosc.rs",
    // Handles a signal.
    "tools/cli/src/no_memory.rs",
];

pub(crate) fn allows_unsafe(text: &str) -> bool {
    text.contains("#![allow(unsafe_code)]")
}

/// `unsafe` without a comment that says who keeps the promise.
pub(crate) fn unjustified_unsafe(name: &str, text: &str) -> Findings {
    // A statement may begin some lines above its `unsafe`.
    const STATEMENT_LINES: usize = 4;
    let lines: Vec<&str> = text.lines().collect();
    let is_comment = |line: &str| line.trim_start().starts_with("//");
    let justified = |at: usize| {
        let mut statement = 0;
        for line in lines[..at].iter().rev() {
            if line.contains("SAFETY:") {
                return true;
            }
            statement += usize::from(!is_comment(line));
            if statement > STATEMENT_LINES || line.is_empty() {
                return false;
            }
        }
        false
    };
    let mut found = Vec::new();
    for (i, line) in lines.iter().enumerate() {
        let opens = ["unsafe {", "unsafe impl"].iter().any(|word| line.contains(word));
        if opens && !is_comment(line) && !line.contains('"') && !justified(i) {
            found.push(format!("{name}:{}: unsafe without a SAFETY comment", i + 1));
        }
    }
    found
}
