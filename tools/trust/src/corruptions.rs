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
        if let Some(wrong) = wrong_answer(&found, &victim.expected, done.lost.as_deref()) {
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
    /// The subject whose document was deleted.
    lost: Option<String>,
}

/// Damages one file; tries others until something has changed.
fn damage(victim: &Victim, random: &mut Random) -> std::io::Result<Damage> {
    let files = victim.tree.files();
    loop {
        let (path, bytes) = *random.pick(&files);
        let target = victim.path().join(path);
        let (kind, detail) = match random.below(100) {
            0..60 if !bytes.is_empty() => {
                let bit = random.below(8 * bytes.len());
                let mut damaged = bytes.to_vec();
                damaged[bit / 8] ^= 1 << (bit % 8);
                replace(&target, &damaged)?;
                ("a flipped bit", format!("bit {bit}"))
            }
            60..67 if !bytes.is_empty() => {
                let (at, mut damaged) = (random.below(bytes.len()), bytes.to_vec());
                let length = (1 + random.below(64)).min(bytes.len() - at);
                let zeros = random.percent(50);
                for byte in &mut damaged[at..at + length] {
                    *byte = if zeros { 0 } else { random.next() as u8 };
                }
                if damaged == bytes {
                    continue;
                }
                replace(&target, &damaged)?;
                ("overwritten bytes", format!("{length} bytes at {at}, zeros: {zeros}"))
            }
            67..74 if !bytes.is_empty() => {
                let length = random.below(bytes.len());
                replace(&target, &bytes[..length])?;
                ("a truncated file", format!("to {length} of {} bytes", bytes.len()))
            }
            74..78 => {
                let extra = vec![*random.pick(&[0, b' ', 0xff]); 1 + random.below(100)];
                replace(&target, &[bytes, &extra].concat())?;
                ("an extended file", format!("by {} bytes {:#04x}", extra.len(), extra[0]))
            }
            78..80 if !bytes.is_empty() => {
                replace(&target, b"")?;
                ("an emptied file", String::new())
            }
            80..84 => {
                fs::remove_file(&target)?;
                ("a deleted file", String::new())
            }
            84..86 => {
                fs::remove_file(&target)?;
                fs::create_dir(&target)?;
                ("a folder in place of a file", String::new())
            }
            86..94 => {
                let others: Vec<_> =
                    files.iter().filter(|f| role(f.0) == role(path) && f.1 != bytes).collect();
                if others.is_empty() {
                    continue;
                }
                let other = random.pick(&others);
                replace(&target, other.1)?;
                if random.percent(50) {
                    replace(&victim.path().join(other.0), bytes)?;
                }
                ("an exchanged file", format!("for {}", other.0.display()))
            }
            94.. => {
                let Some(Node::File(old)) = victim.old.0.get(path) else { continue };
                if old == bytes {
                    continue;
                }
                replace(&target, old)?;
                ("an outdated file", String::new())
            }
            _ => continue,
        };
        let is_lost = kind == "a deleted file" && path.components().count() == 2;
        let lost = is_lost.then(|| path.display().to_string());
        let text = format!("{}: {kind} {detail}", path.display());
        return Ok(Damage { kind, text, lost });
    }
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
