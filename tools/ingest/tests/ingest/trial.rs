//! Layouts tried on a file: the results agree with those of an ingest.

use voxquarry::format::layout::Codec;
use voxquarry_ingest::measure::{Patch, Until, read_patches};
use voxquarry_ingest::trial::trial;
use voxquarry_ingest::{NoopObserver, ingest};

use std::time::Duration;

use voxquarry::Region;

use crate::build::{Folder, Nifti, gzip};
use crate::{images, small, volume};

#[test]
fn the_chosen_layout_has_the_cost_of_an_ingest() {
    let folder = Folder::new();
    // The sample has only the first of the two channels.
    let file =
        folder.write("ct.nii.gz", &gzip(&Nifti::new(1, false, 4, &[33, 40, 50, 2]).single()));
    for codec in [Codec::Fast, Codec::Compact, Codec::None] {
        let options = small().codec(codec);
        let tried = trial(&file, &options).unwrap();
        let chosen = &tried.candidates[0];
        assert!(chosen.is_chosen && chosen.codec == codec);
        assert!(tried.candidates[1..].iter().all(|c| !c.is_chosen));
        assert_eq!(tried.sample, Region::whole([50, 40, 33]), "the sample is the whole volume");
        let store = folder.join(codec.name());
        ingest(&images(&[("a", "ct", &file)]), &store, &options, &NoopObserver).unwrap();
        let stored = volume(&store, "a", "ct");
        assert_eq!(&chosen.layout, stored.layout());
        // The store has two similar channels, and a header.
        let ratio = f64::from(50 * 40 * 33 * 2 * 2) / stored.stored_bytes().unwrap() as f64;
        assert!((chosen.ratio / ratio - 1.0).abs() < 0.15, "{codec:?}: {} {ratio}", chosen.ratio);
        for candidate in &tried.candidates {
            assert!(candidate.ratio > 0.0);
            for cost in &candidate.patches {
                assert_eq!(cost.size, [16; 3]);
                assert!(cost.chunks >= 2.0 && cost.over_read >= 1.0, "{cost:?}");
                let patch_bytes = f64::from(16 * 16 * 16 * 2 * 2);
                assert!(cost.patches_per_second > 0.0);
                let rate = cost.bytes_per_second / cost.patches_per_second;
                assert!((rate / patch_bytes - 1.0).abs() < 1e-9, "{cost:?}");
            }
        }
    }
}

#[test]
fn passes_end_with_the_last_patch_or_the_time() {
    let folder = Folder::new();
    let file = folder.write("ct.nii", &Nifti::new(1, false, 4, &[20, 20, 20]).single());
    let store = folder.join("s.zarr");
    ingest(&images(&[("a", "ct", &file)]), &store, &small(), &NoopObserver).unwrap();
    let volume = volume(&store, "a", "ct");
    let patch = |z| Patch { volume: volume.clone(), region: Region::new([z, 0, 0], [4, 5, 6]) };
    let patches: Vec<Patch> = (0..10).map(patch).collect();
    for threads in [1, 3] {
        let pass = read_patches(&patches, threads, Until::Last(Duration::MAX)).unwrap();
        assert_eq!((pass.patches, pass.bytes), (10, 10 * 4 * 5 * 6 * 2));
        let limit = Duration::from_millis(30);
        let pass = read_patches(&patches, threads, Until::Time(limit)).unwrap();
        assert!(pass.patches > 10 && pass.seconds >= limit.as_secs_f64(), "{pass:?}");
        let pass = read_patches(&patches, threads, Until::Last(Duration::ZERO)).unwrap();
        assert_eq!(pass.patches, threads as u64, "each thread reads one, however short the time");
        assert_eq!(read_patches(&[], threads, Until::Time(limit)).unwrap().patches, 0);
    }
    let outside = [patch(17)];
    assert!(read_patches(&outside, 1, Until::Time(Duration::ZERO)).is_err());
}
