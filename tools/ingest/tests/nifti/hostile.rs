//! Invalid, cut and damaged files: each gives a clear error, without a panic or a large allocation.

use std::fs;
use std::process::Command;

use voxquarry::Fault;
use voxquarry_ingest::nifti;

use crate::build::{Folder, Nifti, gzip, pattern, read, read_error};

/// A pseudorandom generator, xorshift64*.
struct Rng(u64);

impl Rng {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) as usize % limit
    }
}

/// Reads a file whose header is valid, and checks that it promises no more than the file can hold.
fn try_read(path: &std::path::Path) {
    let Ok(volume) = nifti::probe(path) else { return };
    let voxels = volume.size.iter().product::<usize>().saturating_mul(volume.channels.unwrap_or(1));
    assert!(
        voxels.saturating_mul(volume.dtype.size())
            <= 1032 * fs::metadata(path).unwrap().len() as usize
    );
    assert!(volume.affine.validate().is_ok() && volume.slope.is_finite());
    let _ = read(path, 3);
}

#[test]
fn invalid_fields_are_refused() {
    let folder = Folder::new();
    let base = || Nifti::new(1, false, 4, &[4, 3, 2]);
    let two = || Nifti::new(2, false, 4, &[4, 3, 2]);
    let huge = |file: Nifti, sizes: [f64; 4]| {
        sizes
            .iter()
            .enumerate()
            .fold(file, |f, (i, &n)| f.with("dim", i + 1, n))
            .with("dim", 0, 4.0)
    };
    let cases = [
        (base().with("dim", 0, 0.0), "dim[0]"),
        (base().with("dim", 0, 8.0), "dim[0]"),
        (two().with("dim", 0, -1.0), "dim[0]"),
        (base().with("dim", 2, 0.0), "dim[2] is 0"),
        (two().with("dim", 3, -7.0), "dim[3] is -7"),
        (base().with("dim", 1, -1.0), "dim[1] is -1"),
        (huge(base(), [32767.0; 4]), "more than any file holds"),
        (huge(two(), [4e18, 4e18, 4e18, 1.0]), "more than any file holds"),
        (huge(two(), [1_048_576.0, 1_048_576.0, 524_288.0, 1.0]), "bytes"),
        (base().with("vox_offset", 0, 348.0), "vox_offset"),
        (base().with("vox_offset", 0, -1.0), "vox_offset"),
        (base().with("vox_offset", 0, f64::NAN), "vox_offset"),
        (base().with("vox_offset", 0, 1e30), "vox_offset"),
        (base().with("vox_offset", 0, 1e9), "1000000048"),
        (two().with("vox_offset", 0, 9.2e18), "bytes"),
        (base().with("scl_slope", 0, 2.0).with("scl_inter", 0, f64::INFINITY), "scl_inter"),
        (two().with("intent_code", 0, 3006.0), "CIFTI"),
        (base().with("datatype", 0, 0.0), "datatype 0"),
        (base().with("datatype", 0, 1.0), "binary"),
        (base().with("datatype", 0, 32.0), "complex64"),
        (base().with("datatype", 0, 1536.0), "float128"),
        (base().with("datatype", 0, 1792.0), "complex128"),
        (base().with("datatype", 0, 2048.0), "complex256"),
        (base().with("datatype", 0, -5.0), "datatype -5"),
    ];
    for (file, words) in cases {
        for bytes in [file.single(), gzip(&file.single())] {
            let path = folder.write("h.nii.gz", &bytes);
            let error = nifti::probe(&path).unwrap_err();
            let message = error.to_string();
            assert!(message.contains(words), "expected {words:?} in {message:?}");
            assert_eq!(error.fault(), Fault::Data, "{message}");
        }
    }
}

#[test]
fn other_formats_are_recognised() {
    let folder = Folder::new();
    let mut analyze = Nifti::new(1, true, 4, &[4, 3, 2]);
    analyze.header[344..].fill(0);
    folder.write("old.img", &analyze.voxels);
    let mut ends = Nifti::new(2, false, 4, &[4, 3, 2]);
    ends.header[8..12].copy_from_slice(b"\n\x1a\n\0");
    let mut magic = Nifti::new(2, true, 4, &[4, 3, 2]);
    magic.header[4] = b'N';
    let mut alone = Nifti::new(1, false, 4, &[4, 3, 2]).with("vox_offset", 0, 0.0);
    alone.magic(true);
    for (name, bytes, words) in [
        ("old.hdr", analyze.header, ["Analyze", "nibabel"]),
        ("empty.nii", Vec::new(), ["0 bytes", "NIfTI"]),
        ("text.nii", pattern(300), ["300 bytes", "NIfTI"]),
        ("long.nii", pattern(3000), ["magic", "NIfTI"]),
        ("a.nii.bz2", b"BZh91AY&SY".to_vec(), ["bzip2", "decompress"]),
        ("a.nii.zst", vec![0x28, 0xb5, 0x2f, 0xfd, 0, 0], ["zstd", "decompress"]),
        (
            "short.nii",
            Nifti::new(2, false, 4, &[4, 3, 2]).header[..500].to_vec(),
            ["500 bytes", "NIfTI"],
        ),
        ("ends.nii", ends.single(), ["line ends", "binary"]),
        ("magic.nii", magic.single(), ["magic", "NIfTI"]),
        ("alone.nii", alone.single(), [".hdr", ".img"]),
    ] {
        let error = nifti::probe(&folder.write(name, &bytes)).unwrap_err();
        let message = error.to_string();
        assert!(words.iter().all(|w| message.contains(w)), "{name}: {message}");
        assert_eq!(error.fault(), Fault::Data, "{message}");
    }
    assert_eq!(nifti::probe(&folder.join("gone.nii")).unwrap_err().fault(), Fault::Environment);
    assert_eq!(nifti::probe(folder.path()).unwrap_err().fault(), Fault::Caller);
}

#[test]
fn a_pipe_is_refused_without_waiting_for_a_writer() {
    let folder = Folder::new();
    let pipe = folder.join("pipe.nii");
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let error = nifti::probe(&pipe).unwrap_err();
    assert!(error.to_string().contains("not a regular file"), "{error}");
    assert_eq!(error.fault(), Fault::Caller);
}

#[test]
fn a_cut_file_is_refused_with_its_length() {
    let folder = Folder::new();
    let bytes = Nifti::new(1, false, 4, &[4, 3, 2]).single();
    assert_eq!(bytes.len(), 400);
    for cut in 0..400 {
        let message = read_error(&folder.write("c.nii", &bytes[..cut]));
        assert!(message.contains(&format!("{cut} bytes")), "{cut}: {message}");
        assert!(cut < 352 || (message.contains("400") && message.contains("again")), "{message}");
    }
    let (_, image) = Nifti::new(1, false, 4, &[4, 3, 2]).write_pair(folder.path(), "p");
    fs::write(&image, [0; 47]).unwrap();
    let message = read_error(&folder.join("p.hdr"));
    assert!(
        message.contains("p.img") && message.contains("47 bytes") && message.contains("48"),
        "{message}"
    );
}

#[test]
fn a_cut_gzip_is_refused_at_every_length() {
    let folder = Folder::new();
    let single = Nifti::new(1, true, 4, &[9, 8, 7]).single();
    let members = [gzip(&single[..100]), gzip(&single[100..700]), gzip(&single[700..])].concat();
    for whole in [gzip(&single), members] {
        for cut in 0..whole.len() {
            let message = read_error(&folder.write("c.nii.gz", &whole[..cut]));
            assert!(
                cut < 2 || message.contains("again") || message.contains("not a NIfTI"),
                "{cut}: {message}"
            );
        }
        read(&folder.write("c.nii.gz", &whole), 2).unwrap();
    }
}

#[test]
fn a_gzip_with_a_wrong_byte_is_refused_or_harmless() {
    let folder = Folder::new();
    let file = Nifti::new(1, false, 4, &[9, 8, 7]);
    let whole = gzip(&file.single());
    let mut refused = 0;
    for at in 0..whole.len() {
        for flip in [1u8, 0x80, 0xff] {
            let mut bytes = whole.clone();
            bytes[at] ^= flip;
            // Time, system and the padding bits of deflate's last byte do not affect the voxels.
            match read(&folder.write("f.nii.gz", &bytes), 2) {
                Ok((_, voxels, _)) => {
                    assert!(at < 10 || at == whole.len() - 9, "byte {at}");
                    assert_eq!(voxels, file.voxels, "byte {at}");
                }
                Err(error) => {
                    refused += 1;
                    assert_eq!(error.fault(), Fault::Data, "{error}");
                }
            }
        }
    }
    assert!(refused >= 3 * (whole.len() - 11), "{refused} of {}", whole.len());
}

#[test]
fn the_checksum_is_compared_after_the_last_voxel() {
    let folder = Folder::new();
    let mut whole = gzip(&Nifti::new(1, false, 4, &[9, 8, 7]).single());
    let crc = whole.len() - 8;
    whole[crc] ^= 1;
    let path = folder.write("c.nii.gz", &whole);
    let (volume, mut stream) = nifti::open(&path).unwrap();
    let mut voxels = vec![0; 9 * 8 * 7 * 2];
    stream.next_steps(volume.size[0], &mut voxels).unwrap();
    let message = stream.finish().unwrap_err().to_string();
    assert!(message.contains("damaged") && message.contains("again"), "{message}");
}

#[test]
fn a_wrong_byte_does_not_panic() {
    let folder = Folder::new();
    for version in [1, 2] {
        for big in [false, true] {
            let file =
                Nifti::new(version, big, 4, &[4, 3, 2, 2]).with("qform_code", 0, 1.0).extended();
            let bytes = file.single();
            let header = file.header.len() + file.tail.len();
            for at in 0..header {
                for value in [0, 1, 0x7f, 0x80, 0xff, bytes[at] ^ 1, bytes[at] ^ 0x10] {
                    let mut hostile = bytes.clone();
                    hostile[at] = value;
                    try_read(&folder.write("x.nii", &hostile));
                }
            }
        }
    }
}

#[test]
fn several_wrong_bytes_do_not_panic() {
    let folder = Folder::new();
    let seed = 0x5eed_0001;
    let mut rng = Rng(seed);
    for round in 0..4000 {
        let codes = [2, 4, 8, 16, 64, 128, 2304, 1024];
        let file =
            Nifti::new(1 + (round % 2) as u8, round % 4 < 2, codes[rng.below(8)], &[4, 3, 2]);
        let (header_bytes, offset) = (file.header.len(), file.header.len() + 4);
        let mut bytes = file.single();
        for _ in 0..=rng.below(8) {
            let fields = [
                40, 42, 48, 70, 76, 80, 108, 112, 252, 256, 280, 16, 24, 12, 104, 168, 176, 344,
                400,
            ];
            let at =
                if rng.below(2) == 0 { fields[rng.below(fields.len())] } else { rng.below(offset) };
            let width = 1 + rng.below(4);
            let value = [0, 0xff, 0x7f, rng.below(256) as u8][rng.below(4)];
            bytes[at.min(header_bytes - 4)..][..width].fill(value);
        }
        match rng.below(3) {
            0 => try_read(&folder.write("x.nii", &bytes)),
            1 => try_read(&folder.write("x.nii", &gzip(&bytes))),
            _ => {
                folder.write("x.img", &bytes[offset..]);
                try_read(&folder.write("x.hdr", &bytes[..offset]));
            }
        }
    }
}

#[test]
fn random_bytes_do_not_panic() {
    let folder = Folder::new();
    let mut rng = Rng(0x5eed_0002);
    for round in 0..500 {
        let mut bytes: Vec<u8> = (0..rng.below(1200)).map(|_| rng.below(256) as u8).collect();
        match round % 3 {
            0 if bytes.len() > 348 => bytes[344..348].copy_from_slice(b"n+1\0"),
            1 if bytes.len() > 12 => bytes[..12].copy_from_slice(b"\x1c\x02\0\0n+2\0\r\n\x1a\n"),
            _ => {}
        }
        try_read(&folder.write("r.nii", &bytes));
        try_read(&folder.write("r.nii.gz", &gzip(&bytes)));
        try_read(&folder.write("r.nii.gz", &[&[0x1f, 0x8b, 8], &bytes[..]].concat()));
    }
}
