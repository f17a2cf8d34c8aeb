//! Ingest, read and export of random shapes, types, layouts and codecs: every voxel and byte comes
//! back.

use proptest::prelude::*;
use voxquarry::format::layout::Codec;
use voxquarry::{IfExists, Padding};
use voxquarry_ingest::{IngestOptions, NoopObserver, export, ingest};

use crate::build::{Folder, Nifti, PLAIN, gzip, pattern};
use crate::{assert_sound, images, volume, voxels};

/// Colour types: code, samples.
const COLOURS: [(i16, usize); 2] = [(128, 3), (2304, 4)];

#[derive(Clone, Debug)]
struct Case {
    code: i16,
    dims: Vec<i64>,
    version: u8,
    big: bool,
    zipped: bool,
    patch_sizes: Vec<[usize; 3]>,
    codec: Codec,
    memory_bytes: u64,
    threads: usize,
    /// Of 256 bytes, `noise` are pseudorandom; of 4 rows, `empty` are zero.
    noise: usize,
    empty: usize,
    seed: u64,
    /// Bytes after the voxels.
    trailer: usize,
}

fn cases() -> impl Strategy<Value = Case> {
    let codes = PLAIN.iter().map(|p| p.0).chain(COLOURS.map(|c| c.0)).collect::<Vec<_>>();
    let dims =
        (1i64..50, 1i64..50, 1i64..50, proptest::option::of(1i64..4)).prop_map(|(x, y, z, c)| {
            [Some(x), Some(y), Some(z), c].into_iter().flatten().collect::<Vec<_>>()
        });
    let patch = || (1usize..70, 1usize..70, 1usize..70).prop_map(|(z, y, x)| [z, y, x]);
    let codec = prop_oneof![Just(Codec::Fast), Just(Codec::Compact), Just(Codec::None)];
    (
        (proptest::sample::select(codes), dims, 1u8..3, any::<bool>(), any::<bool>()),
        (proptest::collection::vec(patch(), 1..3), codec),
        (prop_oneof![Just(64u64 << 20), Just(1 << 30)], 1usize..4),
        (0usize..=256, 0usize..=4, any::<u64>(), prop_oneof![Just(0usize), 1usize..600]),
    )
        .prop_map(|(file, layout, run, content)| {
            let (code, dims, version, big, zipped) = file;
            let (patch_sizes, codec) = layout;
            let ((memory_bytes, threads), (noise, empty, seed, trailer)) = (run, content);
            Case {
                code,
                dims,
                version,
                big,
                zipped,
                patch_sizes,
                codec,
                memory_bytes,
                threads,
                noise,
                empty,
                seed,
                trailer,
            }
        })
}

fn file_of(case: &Case) -> Nifti {
    let mut file = Nifti::new(case.version, case.big, case.code, &case.dims);
    let row = file.voxels.len() / (case.dims[1..].iter().product::<i64>() as usize);
    let mut state = case.seed;
    for (i, byte) in file.voxels.iter_mut().enumerate() {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        if i / row % 4 < case.empty {
            *byte = 0;
        } else if i % 256 < case.noise {
            *byte = (state >> 56) as u8;
        }
    }
    file
}

/// The voxels of the file as a store has them: little endian, with one plane for each sample.
fn expected(case: &Case, file: &Nifti) -> Vec<u8> {
    let Some(&(_, samples)) = COLOURS.iter().find(|c| c.0 == case.code) else {
        let width = PLAIN.iter().find(|p| p.0 == case.code).unwrap().2;
        let mut bytes = file.voxels.clone();
        if case.big {
            bytes.chunks_exact_mut(width).for_each(<[u8]>::reverse);
        }
        return bytes;
    };
    let frame = case.dims[..3].iter().product::<i64>() as usize * samples;
    let frames = file.voxels.chunks_exact(frame);
    let sample =
        |frame: &[u8], s| frame.iter().skip(s).step_by(samples).copied().collect::<Vec<_>>();
    frames.flat_map(|frame| (0..samples).flat_map(move |s| sample(frame, s))).collect()
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 96,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn every_voxel_and_every_byte_comes_back(case in cases()) {
        let (folder, file) = (Folder::new(), file_of(&case));
        let bytes = [file.single(), pattern(case.trailer)].concat();
        let name = if case.zipped { "a.nii.gz" } else { "a.nii" };
        let path = folder.write(name, &if case.zipped { gzip(&bytes) } else { bytes.clone() });
        let options = IngestOptions::default()
            .patch_sizes(case.patch_sizes.clone())
            .codec(case.codec)
            .memory_bytes(case.memory_bytes)
            .threads(case.threads);
        let store = folder.join("s.zarr");
        ingest(&images(&[("a", "v", &path)]), &store, &options, &NoopObserver).unwrap();
        let volume = volume(&store, "a", "v");
        let expected = expected(&case, &file);
        prop_assert!(voxels(&volume) == expected, "{:?}", volume.layout());

        // A patch that leaves the volume by one voxel on every side, compared with plain indexing.
        let (size, t) = (volume.size(), volume.dtype().size());
        let channels = volume.channels().unwrap_or(1);
        let padded = size.map(|n| n + 2);
        let mut patch = vec![0xa5; padded.iter().product::<usize>() * channels * t];
        volume.read_bytes(&[[-1; 3]], padded, Padding::Edge, 0..channels, &mut patch).unwrap();
        let inside = |i: usize, n: usize| i.saturating_sub(1).min(n - 1);
        for (i, voxel) in patch.chunks_exact(t).enumerate() {
            let (x, rest) = (i % padded[2], i / padded[2]);
            let (y, rest) = (rest % padded[1], rest / padded[1]);
            let (z, c) = (rest % padded[0], rest / padded[0]);
            let [z, y, x] = [inside(z, size[0]), inside(y, size[1]), inside(x, size[2])];
            let from = ((c * size[0] + z) * size[1] + y) * size[2] + x;
            prop_assert_eq!(voxel, &expected[from * t..][..t]);
        }

        let out = folder.join("again.nii");
        export(&volume, &out, IfExists::Error).unwrap();
        prop_assert!(std::fs::read(&out).unwrap() == bytes, "the exported file differs");
        assert_sound(&store);
    }
}
