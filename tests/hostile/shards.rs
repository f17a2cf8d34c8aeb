//! Shards: lengths, indices, chunks and frames, damaged by chance and by intent.

use std::fs;

use voxquarry::{Access, Error, Fault};

use super::victim::{BOTH, Victim, replace, sealed};

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
        let write = |index: &[u8]| replace(&shard, &[chunks, &sealed(index)].concat());
        write(index);
        assert!(victim.readable(Access::Map, &|| "unchanged".into()));
        let mut read = 0;
        for at in 0..index.len() {
            for value in [0, 1, 0x7f, 0xff, index[at] ^ 4] {
                let mut lying = index.to_vec();
                lying[at] = value;
                write(&lying);
                // Whoever makes the checksum right may swap chunks; what remains is that no chunk
                // is used twice.
                match victim.read(BOTH[at % 2]) {
                    Ok((_, found)) if found == victim.expected => read += 1,
                    Ok(_) => assert!(victim.verified().contains("overlap"), "{name}: byte {at}"),
                    Err(error) => assert_eq!(error.fault(), Fault::Data, "{error}"),
                }
            }
        }
        assert!(read > 0);
        let max = u64::MAX;
        let end = chunks.len() as u64;
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
            replace(&shard, &[sealed(payload), sealed(&index)].concat());
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
fn a_lost_shard_is_noticed() {
    for name in ["u8", "i16", "f64"] {
        let victim = Victim::new("grid", name);
        fs::remove_file(victim.shard(1)).unwrap();
        let report = victim.verified();
        assert!(report.contains("shard files") && report.contains("missing"), "{report}");
        // Its voxels may be zero (§5), the others are right.
        if let Ok((_, found)) = victim.read(Access::Map) {
            let layout = &victim.golden.layout;
            let plane = layout.size[1] * layout.size[2] * layout.dtype.size();
            for (i, (found, expected)) in
                found.chunks(plane).zip(victim.expected.chunks(plane)).enumerate()
            {
                let lost = i < layout.size[0] && i >= layout.shard[0];
                assert!(found == expected || lost && found.iter().all(|&b| b == 0), "plane {i}");
            }
        }
    }
}
