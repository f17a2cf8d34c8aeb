//! Shards: lengths, indices, chunks and frames, damaged by chance and by intent.

use std::fs;

use voxquarry::{Access, Dataset, Epoch, Error, Fault, OpenOptions, Padding, WeightedSampler};

use super::victim::{BOTH, Victim, replace, sealed, zstd};

#[test]
fn shards_of_another_length_are_refused() {
    for name in ["u8", "i16", "f64"] {
        let victim = Victim::new("grid", name);
        let shard = victim.shard(1);
        let whole = fs::read(&shard).unwrap();
        let step = whole.len() / 400 + 1;
        let lengths = (0..whole.len()).step_by(step).chain(whole.len() - 30..whole.len());
        for (i, length) in lengths.enumerate() {
            replace(&shard, &whole[..length]);
            let context = || format!("{name}: {length} of {} bytes", whole.len());
            victim.refused(BOTH[i % 2], &context);
            if i % 20 == 0 {
                assert!(victim.verified().contains("index"), "{}", context());
            }
        }
        for more in [1, 4, 16, 4096] {
            replace(&shard, &[&whole[..], &vec![0; more]].concat());
            victim.refused(Access::Map, &|| format!("{name}: {more} bytes too many"));
            assert_ne!(victim.verified(), "");
        }
        replace(&shard, &whole);
        assert_eq!(victim.verified(), "");
    }
}

#[test]
fn every_flipped_bit_of_a_shard_is_noticed() {
    for name in ["u8", "i8", "u16", "i16", "u64"] {
        let victim = Victim::new("grid", name);
        let shard = victim.shard(1);
        let whole = fs::read(&shard).unwrap();
        for byte in 0..whole.len() {
            let mut damaged = whole.clone();
            damaged[byte] ^= 1 << (byte % 8);
            replace(&shard, &damaged);
            let context = || format!("{name}: byte {byte}");
            victim.refused(BOTH[byte % 2], &context);
            if byte % 32 == 0 {
                assert!(victim.verified().contains("crc32c"), "{}", context());
            }
        }
    }
}

#[test]
fn index_entries_that_lie_stay_in_the_file() {
    for name in ["u8", "i16", "f64"] {
        let victim = Victim::new("grid", name);
        let shard = victim.shard(0);
        let whole = fs::read(&shard).unwrap();
        let (chunks, index) = whole.split_at(whole.len() - 16 * victim.slots() - 4);
        let index = &index[..index.len() - 4];
        // The chunks end with the checksum of the contents.
        let write = |index: &[u8]| {
            replace(&shard, &[chunks, &sealed(index)].concat());
            victim.relist_contents();
        };
        write(index);
        assert!(victim.readable(Access::Map, &|| "unchanged".into()));
        let mut read = 0;
        for at in 0..index.len() {
            for value in [0, 1, 0x7f, 0xff, index[at] ^ 4] {
                let mut lying = index.to_vec();
                lying[at] = value;
                write(&lying);
                // An index with a right checksum may swap chunks; `verify` still notices a chunk
                // that is used twice.
                match victim.read(BOTH[at % 2]) {
                    Ok((_, found)) if found == victim.expected => read += 1,
                    Ok(_) => assert!(victim.verified().contains("overlap"), "{name}: byte {at}"),
                    Err(error) => assert_eq!(error.fault(), Fault::Data, "{error}"),
                }
            }
        }
        assert!(read > 0);
        let max = u64::MAX;
        let end = chunks.len() as u64 - 4;
        for (offset, nbytes) in [
            (0, 0),
            (0, 4),
            (0, end + 1),
            (end, 5),
            (end - 4, 5),
            (max, 5),
            (max - 4, 5),
            (max - 5, 5),
            (0, max),
            (max, max - 1),
            (max - 1, max),
            (1 << 63, 1 << 63),
        ] {
            let entry = [offset.to_le_bytes(), nbytes.to_le_bytes()].concat();
            write(&[&entry, &index[16..]].concat());
            let context = || format!("{name}: {nbytes} bytes at {offset}");
            victim.refused(Access::Map, &context);
            assert!(victim.verified().contains("shard index"), "{}", context());
        }
    }
}

#[test]
fn frames_that_lie_are_refused_or_decoded_within_their_bounds() {
    for name in ["u8", "i8", "u16", "i16", "u64", "f16", "f32", "f64"] {
        let victim = Victim::new("grid", name);
        let shard = victim.shard(0);
        let whole = fs::read(&shard).unwrap();
        let end = whole.len() - 16 * victim.slots() - 4;
        let u64_at = |at: usize| u64::from_le_bytes(whole[at..at + 8].try_into().unwrap()) as usize;
        let (offset, nbytes) = (u64_at(end), u64_at(end + 8));
        let payload = &whole[offset..offset + nbytes - 4];
        // A shard of this one chunk; where it is right, so is the chunk.
        let write = |payload: &[u8]| {
            let entry = [0u64.to_le_bytes(), (payload.len() as u64 + 4).to_le_bytes()].concat();
            let index = [entry, vec![0xff; 16 * (victim.slots() - 1)]].concat();
            let chunk = sealed(payload);
            let contents = crc32c::crc32c(&chunk[payload.len()..]).to_le_bytes().to_vec();
            replace(&shard, &[chunk, contents, sealed(&index)].concat());
            victim.relist_contents();
        };
        write(payload);
        let (_, right) = victim.read(Access::Map).unwrap();
        let (mut refused, mut other) = (0, 0);
        let mut look = |context: String| match victim.read(Access::Map) {
            Ok((_, found)) => other += usize::from(found != right),
            Err(Error::ChunkDecode { .. }) => refused += 1,
            Err(error) => panic!("{name}: {context}: {error}"),
        };
        for at in (0..payload.len()).take(200) {
            for value in [0, 1, 0x7f, 0x80, 0xff, payload[at] ^ 0x10] {
                let mut lying = payload.to_vec();
                lying[at] = value;
                write(&lying);
                look(format!("byte {at} {value:#04x}"));
            }
        }
        for length in (1..payload.len()).step_by(payload.len() / 100 + 1) {
            write(&payload[..length]);
            look(format!("{length} bytes"));
            write(&[payload, &vec![0; length]].concat());
            look(format!("{length} bytes too many"));
        }
        assert!(refused > 100, "{name}: {refused} refused, {other} decoded to something else");
    }
}

#[test]
fn a_shard_that_is_cut_while_it_is_open_is_an_error() {
    for access in BOTH {
        for name in ["u8", "f64", "u16"] {
            let victim = Victim::new("grid", name);
            let volume = victim.open(access).unwrap();
            let channels = 0..victim.golden.layout.channel_count();
            let mut out = vec![0; victim.expected.len()];
            let mut read = || {
                let size = volume.size();
                volume.read_bytes(&[[0; 3]], size, Padding::None, channels.clone(), &mut out)
            };
            read().unwrap();
            let shard = fs::OpenOptions::new().write(true).open(victim.shard(0)).unwrap();
            shard.set_len(0).unwrap();
            let error = read().unwrap_err();
            assert_eq!(error.fault(), Fault::Data, "{name}: {error}");
            assert!(error.to_string().contains("while it was open"), "{name}: {error}");
        }
    }
}

#[test]
fn links_are_followed_on_request_and_never_by_writers() {
    let victim = Victim::new("grid", "u8");
    let (path, elsewhere) = (victim.store().join("grid"), tempfile::tempdir().unwrap());
    let moved = elsewhere.path().join("moved");
    fs::rename(&path, &moved).unwrap();
    std::os::unix::fs::symlink(&moved, &path).unwrap();
    let options = OpenOptions::default().threads(1).follow_links(true);
    let subject = Dataset::open(victim.store(), &options).unwrap().subject("grid").unwrap();
    let volume = subject.volume("u8").unwrap();
    let mut out = vec![0; victim.expected.len()];
    volume.read_bytes(&[[0; 3]], volume.size(), Padding::None, 0..1, &mut out).unwrap();
    assert!(out == victim.expected);
    let sampler = WeightedSampler::new([2; 3], "u8").unwrap();
    sampler.locations(&subject, 1, Epoch::default(), 0).unwrap();
    assert!(!moved.join("u8/sums").exists(), "sums are not written through a link");
}

#[test]
fn a_lost_shard_is_refused() {
    for name in ["u8", "i16", "f64"] {
        let victim = Victim::new("grid", name);
        fs::remove_file(victim.shard(1)).unwrap();
        for access in BOTH {
            let error = victim.read(access).unwrap_err();
            assert_eq!(error.fault(), Fault::Data, "{error}");
            assert!(error.to_string().contains("the file is missing"), "{error}");
        }
        assert!(victim.verified().contains("the file is missing"));
    }
}

#[test]
fn shards_in_another_place_are_refused() {
    for name in ["u8", "i16", "f64", "u16"] {
        let victim = Victim::new("grid", name);
        let [first, second] = [0, 1].map(|z| fs::read(victim.shard(z)).unwrap());
        replace(&victim.shard(0), &second);
        replace(&victim.shard(1), &first);
        for access in BOTH {
            victim.refused(access, &|| format!("{name}: two shards exchanged"));
        }
        assert!(victim.verified().contains("not the bytes that the volume lists"));
    }
    // Volumes of one layout: only the lists tell their shards apart.
    let (victim, other) = (Victim::new("grid", "u8"), Victim::new("grid", "i8"));
    replace(&victim.shard(0), &fs::read(other.shard(0)).unwrap());
    victim.refused(Access::Map, &|| "a shard of another volume".into());
    assert_ne!(victim.verified(), "");
}

#[test]
fn a_shard_that_is_not_listed_is_ignored_and_verified() {
    let victim = Victim::new("grid", "labels-i32");
    replace_in_new_folder(&victim);
    assert!(victim.readable(Access::Map, &|| "a file where the list has none".into()));
    assert!(victim.verified().contains("lists no file"), "{}", victim.verified());
}

fn replace_in_new_folder(victim: &Victim) {
    let (from, to) = (victim.shard(1), victim.shard(0));
    fs::create_dir_all(to.parent().unwrap()).unwrap();
    fs::copy(from, to).unwrap();
}

#[test]
fn lists_of_shards_that_lie_are_refused() {
    for name in ["u8", "i64"] {
        let victim = Victim::new("grid", name);
        let path = victim.volume_dir().join("shards/c/0");
        let whole = fs::read(&path).unwrap();
        for byte in 0..whole.len() {
            let mut damaged = whole.clone();
            damaged[byte] ^= 1 << (byte % 8);
            replace(&path, &damaged);
            victim.refused(BOTH[byte % 2], &|| format!("{name}: byte {byte}"));
            assert_ne!(victim.verified(), "");
        }
        // A list that is whole, and not the volume's.
        replace(&path, &sealed(&zstd(&vec![0xab; 8 << 16])));
        victim.refused(Access::Map, &|| format!("{name}: another list"));
        fs::remove_file(&path).unwrap();
        victim.refused(Access::Map, &|| format!("{name}: no list"));
        fs::remove_dir_all(victim.volume_dir().join("shards")).unwrap();
        victim.refused(Access::Map, &|| format!("{name}: no array"));
        assert_ne!(victim.verified(), "");
    }
}

#[test]
fn a_replaced_subject_is_read_as_it_was_or_refused() {
    let (victim, other) = (Victim::new("grid", "u8"), Victim::new("grid", "u8"));
    let (layout, old) = (&victim.golden.layout, victim.open(Access::Map).unwrap());
    let mut out = vec![0; victim.expected.len()];
    // The shard at the origin is open, the other is not.
    let half = [layout.shard[0], layout.size[1], layout.size[2]];
    let bytes = half.iter().product();
    old.read_bytes(&[[0; 3]], half, Padding::None, 0..1, &mut out[..bytes]).unwrap();
    for z in 0..2 {
        let shard = fs::read(other.shard(1 - z)).unwrap();
        replace(&victim.shard(z), &shard);
    }
    old.read_bytes(&[[0; 3]], half, Padding::None, 0..1, &mut out[..bytes]).unwrap();
    assert!(out[..bytes] == victim.expected[..bytes], "an open shard is read as it was");
    let error = old.read_bytes(&[[0; 3]], layout.size, Padding::None, 0..1, &mut out).unwrap_err();
    assert_eq!(error.fault(), Fault::Data, "{error}");
    assert!(error.to_string().contains("open the dataset again"), "{error}");
    fs::remove_dir_all(victim.store()).unwrap();
    let error = old.read_bytes(&[[0; 3]], layout.size, Padding::None, 0..1, &mut out).unwrap_err();
    assert_eq!(error.fault(), Fault::Data, "{error}");
}

#[test]
fn links_in_place_of_folders_are_refused() {
    for place in ["grid", "grid/u8", "grid/u8/0"] {
        let victim = Victim::new("grid", "u8");
        let (path, elsewhere) = (victim.store().join(place), tempfile::tempdir().unwrap());
        let elsewhere = elsewhere.path().join("moved");
        fs::rename(&path, &elsewhere).unwrap();
        std::os::unix::fs::symlink(&elsewhere, &path).unwrap();
        victim.refused(Access::Map, &|| place.into());
        assert!(victim.verified().contains("it is a link"), "{place}: {}", victim.verified());
    }
}

#[test]
fn links_and_fifos_in_place_of_files_are_refused() {
    for place in ["shard", "list", "group", "level", "subject", "dataset"] {
        for is_fifo in [false, true] {
            let victim = Victim::new("grid", "u8");
            let path = match place {
                "shard" => victim.shard(0),
                "list" => victim.volume_dir().join("shards/c/0"),
                "group" => victim.volume_dir().join("zarr.json"),
                "level" => victim.volume_dir().join("0/zarr.json"),
                "subject" => victim.store().join("grid/zarr.json"),
                _ => victim.store().join("zarr.json"),
            };
            let elsewhere = victim.store().join("elsewhere");
            fs::rename(&path, &elsewhere).unwrap();
            if is_fifo {
                let made = std::process::Command::new("mkfifo").arg(&path).status().unwrap();
                assert!(made.success());
            } else {
                std::os::unix::fs::symlink(&elsewhere, &path).unwrap();
            }
            for access in BOTH {
                victim.refused(access, &|| format!("{place}, fifo {is_fifo}"));
            }
            assert_ne!(victim.verified(), "", "{place}, fifo {is_fifo}");
        }
    }
}
