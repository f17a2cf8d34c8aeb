//! Label counts: damage is noticed, lies are found out by the voxels.

use std::fs;

use voxquarry::{Access, Epoch, Fault, WeightedSampler};

use super::victim::{Victim, sealed, zstd};

#[test]
fn damaged_label_counts_are_noticed() {
    let victim = Victim::new("grid", "labels-i32");
    let counts = || victim.open(Access::Map).and_then(|v| v.label_counts());
    let right = counts().unwrap();
    for array in ["offsets", "labels", "counts"] {
        let folder = victim.volume_dir().join("summary").join(array);
        let path = folder.join("c/0");
        let whole = fs::read(&path).unwrap();
        for byte in 0..whole.len() {
            let mut damaged = whole.clone();
            damaged[byte] ^= 0x10;
            fs::write(&path, &damaged).unwrap();
            assert_eq!(counts().unwrap_err().fault(), Fault::Data, "{array}: byte {byte}");
            fs::write(&path, &whole[..byte]).unwrap();
            assert!(counts().is_err(), "{array}: {byte} bytes");
        }
        assert_ne!(victim.verified(), "");
        fs::remove_file(&path).unwrap();
        assert!(counts().is_err());
        assert_ne!(victim.verified(), "");
        fs::write(&path, &whole).unwrap();

        let path = folder.join("zarr.json");
        let whole = fs::read(&path).unwrap();
        for at in (0..whole.len()).step_by(2) {
            for value in [whole[at] ^ 1, b'8'] {
                let mut damaged = whole.clone();
                damaged[at] = value;
                fs::write(&path, &damaged).unwrap();
                if let Ok(found) = counts() {
                    assert_eq!(found, right, "{array} zarr.json byte {at} {value:#04x}");
                }
            }
        }
        fs::remove_file(&path).unwrap();
        assert!(counts().is_err());
        fs::write(&path, &whole).unwrap();
    }
    assert_eq!(victim.verified(), "");
}

#[test]
fn flipped_bits_of_the_documents_beside_a_volume_are_noticed() {
    let victim = Victim::new("grid", "labels-i32");
    let sampler = WeightedSampler::new([2; 3], "f32").unwrap();
    let image = Victim::new("grid", "f32");
    sampler.locations(&image.dataset().subject("grid").unwrap(), 1, Epoch::default(), 0).unwrap();
    assert_eq!((victim.verified(), image.verified()), (String::new(), String::new()));
    let read = || {
        victim.open(Access::Map).unwrap().label_counts()?;
        victim.read(Access::Map).map(drop)
    };
    for (of, folder) in [
        (&victim, "summary"),
        (&victim, "summary/offsets"),
        (&victim, "summary/labels"),
        (&victim, "summary/counts"),
        (&victim, "shards"),
        (&image, "sums"),
    ] {
        let (path, whole) = (of.volume_dir().join(folder).join("zarr.json"), of.document(folder));
        for byte in 0..whole.len() {
            let mut damaged = whole.clone();
            damaged[byte] ^= 1 << (byte % 8);
            fs::write(&path, &damaged).unwrap();
            // Sums are computed again instead.
            assert!(folder == "sums" || read().is_err(), "{folder} byte {byte}");
            if byte % 16 == 0 || folder == "sums" {
                assert_ne!(of.verified(), "", "{folder} byte {byte}");
            }
        }
        fs::write(&path, &whole).unwrap();
    }
    assert_eq!((victim.verified(), image.verified()), (String::new(), String::new()));
}

#[test]
fn label_counts_that_lie_are_noticed() {
    let victim = Victim::new("grid", "labels-i32");
    let write = |array: &str, values: &[u8]| {
        let element = if array == "counts" { 4 } else { 8 };
        let mut whole = values.to_vec();
        whole.resize(element << 16, 0);
        let path = victim.volume_dir().join("summary").join(array).join("c/0");
        fs::write(path, sealed(&zstd(&whole))).unwrap();
    };
    let volume = victim.open(Access::Map).unwrap();
    let right = volume.label_counts().unwrap();
    let (mut offsets, mut labels, mut counts) = (vec![0u64], Vec::new(), Vec::new());
    for chunk in 0..right.chunks() {
        for (label, count) in right.chunk(chunk) {
            labels.push(label);
            counts.push(count);
        }
        offsets.push(labels.len() as u64);
    }
    let as_bytes = bytemuck::cast_slice::<u64, u8>;
    let label_bytes = bytemuck::cast_slice::<i64, u8>;
    let count_bytes = bytemuck::cast_slice::<u32, u8>;
    let restore = || {
        write("offsets", as_bytes(&offsets));
        write("labels", label_bytes(&labels));
        write("counts", count_bytes(&counts));
        assert_eq!(volume.label_counts().unwrap(), right);
        assert_eq!(victim.verified(), "");
    };
    restore();
    let last = offsets.len() - 1;
    for (at, value) in
        [(0, 1), (last, 0), (last, u64::MAX), (4, u64::MAX), (1, offsets[last]), (last, 1 << 40)]
    {
        let mut lying = offsets.clone();
        lying[at] = value;
        write("offsets", as_bytes(&lying));
        assert!(volume.label_counts().is_err(), "offset {at} = {value}");
        assert_ne!(victim.verified(), "");
    }
    restore();
    for (at, value) in [(0, 0), (1, labels[0]), (0, i64::MAX)] {
        let mut lying = labels.clone();
        lying[at] = value;
        write("labels", label_bytes(&lying));
        assert!(volume.label_counts().is_err(), "label {at} = {value}");
    }
    restore();
    for (at, value) in [(0, 0), (0, u32::MAX), (0, 513)] {
        let mut lying = counts.clone();
        lying[at] = value;
        write("counts", count_bytes(&lying));
        assert!(volume.label_counts().is_err(), "count {at} = {value}");
    }
    // Lies that fit together are no longer those that the volume names.
    counts[0] -= 1;
    write("counts", count_bytes(&counts));
    assert!(volume.label_counts().unwrap_err().to_string().contains("not those"));
    // Lies that the volume names are detected by the voxels.
    let arrays = [("offsets", as_bytes(&offsets)), ("labels", label_bytes(&labels))];
    let mut bytes = victim.document("summary");
    for (array, values) in arrays.into_iter().chain([("counts", count_bytes(&counts))]) {
        bytes.extend(victim.document(&format!("summary/{array}")));
        bytes.extend(values);
    }
    victim.edit("", "/attributes/voxquarry/summary_crc32c", crc32c::crc32c(&bytes).into());
    assert_ne!(victim.open(Access::Map).unwrap().label_counts().unwrap(), right);
    assert!(victim.verified().contains("label counts of chunk 4"), "{}", victim.verified());
}
