//! One file of a store is damaged, lost, exchanged or outdated.
//!
//! Oracle: every answer of a reader is the one of the whole store, or an error; and `verify`
//! notices.

use std::fs;
use std::path::{Path, PathBuf};

use tempfile::TempDir;
use voxquarry::{Access, verify};

use crate::Args;
use crate::campaign::{Campaign, Verdict};
use crate::observe::{Observation, has_errors, observe, wrong_answer};
use crate::random::Random;
use crate::stores::{CODECS, write_store};
use crate::tree::{Node, Tree};

/// The store of one codec.
struct Victim {
    folder: TempDir,
    tree: Tree,
    /// The same store in an earlier generation.
    old: Tree,
    expected: Observation,
}

pub(crate) struct Corruptions(Vec<Victim>);

impl Victim {
    fn path(&self) -> PathBuf {
        self.folder.path().join("s.zarr")
    }
}

impl Corruptions {
    pub(crate) fn begin(args: &Args) -> Result<Self, String> {
        let victim = |codec| -> Result<Victim, String> {
            let folder = tempfile::tempdir_in(args.folder()).map_err(|e| e.to_string())?;
            let store = folder.path().join("s.zarr");
            let generation = |number| {
                write_store(&store, codec, number).map_err(|e| e.to_string())?;
                Tree::read(&store).map_err(|e| e.to_string())
            };
            let (old, tree) = (generation(1)?, generation(2)?);
            let expected = observe(&store, Access::Read);
            if has_errors(&expected) || expected != observe(&store, Access::Map) {
                return Err(format!("the store cannot be read: {expected:?}"));
            }
            Ok(Victim { folder, tree, old, expected })
        };
        CODECS.into_iter().map(victim).collect::<Result<_, _>>().map(Self)
    }
}

impl Campaign for Corruptions {
    fn case(&mut self, number: u64, random: &mut Random) -> Verdict {
        let victim = &self.0[number as usize % self.0.len()];
        let store = victim.path();
        let done = damage(victim, random).map_err(|e| format!("cannot damage: {e}"))?;
        let verified = verify(&store, &|_| ());
        let noticed = verified.map_or(true, |report| report.error_count > 0);
        let access = if random.percent(50) { Access::Map } else { Access::Read };
        let found = observe(&store, access);
        victim.tree.restore(&store).map_err(|e| format!("cannot restore: {e}"))?;
        if let Some(wrong) = wrong_answer(&found, &victim.expected) {
            return Err(format!("{}: {wrong}", done.text));
        }
        if !noticed {
            return Err(format!("{}: verify says that all is right", done.text));
        }
        Ok(done.kind)
    }
}

/// What was done to a store.
struct Damage {
    kind: &'static str,
    text: String,
}

/// Damages one file; tries others until something has changed.
fn damage(victim: &Victim, random: &mut Random) -> std::io::Result<Damage> {
    let files = victim.tree.files();
    loop {
        let (path, bytes) = *random.pick(&files);
        let target = victim.path().join(path);
        let done = match random.below(100) {
            0..80 if bytes.is_empty() => None,
            share @ 0..80 => damaged(bytes, share, random)
                .map(|(kind, detail, bytes)| replace(&target, &bytes).map(|()| (kind, detail))),
            80..84 => Some(fs::remove_file(&target).map(|()| ("a deleted file", String::new()))),
            84..86 => {
                let done = fs::remove_file(&target).and_then(|()| fs::create_dir(&target));
                Some(done.map(|()| ("a folder in place of a file", String::new())))
            }
            86..94 => exchange(victim, &files, (path, bytes), random),
            _ => match victim.old.0.get(path) {
                Some(Node::File(old)) if old != bytes => {
                    Some(replace(&target, old).map(|()| ("an outdated file", String::new())))
                }
                _ => None,
            },
        };
        let Some(done) = done else { continue };
        let (kind, detail) = done?;
        let text = format!("{}: {kind} {detail}", path.display());
        return Ok(Damage { kind, text });
    }
}

/// What a damaged file holds, by a number below 80; `None` if nothing would change.
fn damaged(
    bytes: &[u8],
    share: usize,
    random: &mut Random,
) -> Option<(&'static str, String, Vec<u8>)> {
    let mut damaged = bytes.to_vec();
    let (kind, detail) = match share {
        0..60 => {
            let bit = random.below(8 * bytes.len());
            damaged[bit / 8] ^= 1 << (bit % 8);
            ("a flipped bit", format!("bit {bit}"))
        }
        60..67 => {
            let at = random.below(bytes.len());
            let length = (1 + random.below(64)).min(bytes.len() - at);
            let zeros = random.percent(50);
            for byte in &mut damaged[at..at + length] {
                *byte = if zeros { 0 } else { random.next() as u8 };
            }
            ("overwritten bytes", format!("{length} bytes at {at}, zeros: {zeros}"))
        }
        67..74 => {
            damaged.truncate(random.below(bytes.len()));
            ("a truncated file", format!("to {} of {} bytes", damaged.len(), bytes.len()))
        }
        74..78 => {
            let extra = vec![*random.pick(&[0, b' ', 0xff]); 1 + random.below(100)];
            damaged.extend_from_slice(&extra);
            ("an extended file", format!("by {} bytes {:#04x}", extra.len(), extra[0]))
        }
        _ => {
            damaged.clear();
            ("an emptied file", String::new())
        }
    };
    (damaged != bytes).then_some((kind, detail, damaged))
}

/// Puts another file of the same role in the place of one, and perhaps that one in its place;
/// `None` if there is none.
fn exchange(
    victim: &Victim,
    files: &[(&Path, &[u8])],
    (path, bytes): (&Path, &[u8]),
    random: &mut Random,
) -> Option<std::io::Result<(&'static str, String)>> {
    let others: Vec<_> = files.iter().filter(|f| role(f.0) == role(path) && f.1 != bytes).collect();
    if others.is_empty() {
        return None;
    }
    let (other, others_bytes) = **random.pick(&others);
    let is_mutual = random.percent(50);
    let placed = replace(&victim.path().join(path), others_bytes);
    let both = placed
        .and_then(|()| if is_mutual { replace(&victim.path().join(other), bytes) } else { Ok(()) });
    Some(both.map(|()| ("an exchanged file", format!("for {}", other.display()))))
}

/// Files of one role have the same form.
fn role(path: &Path) -> &'static str {
    let name = path.to_string_lossy();
    if name.ends_with("zarr.json") {
        "document"
    } else if name.contains("/0/c/") {
        "shard"
    } else {
        "values"
    }
}

/// A published file is replaced, never written in place.
fn replace(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let staged = path.with_file_name(".damaged");
    fs::write(&staged, bytes)?;
    fs::rename(staged, path)
}
