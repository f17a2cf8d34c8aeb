//! One file of a store is damaged, lost, exchanged or outdated, or its list of subjects is of
//! others.
//!
//! Oracle: every answer of a reader is the one of the whole store, or an error; and `verify`
//! notices; of the list what it lacks, because a subject may be removed without it.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use tempfile::TempDir;
use voxquarry::format::document::{ZARR_JSON, write_sealed};
use voxquarry::format::layout::Codec;
use voxquarry::{Access, list_subjects, verify};

use crate::Args;
use crate::campaign::{Campaign, Verdict};
use crate::observe::{Observation, has_errors, observe, wrong_answer};
use crate::random::Random;
use crate::stores::{CODECS, SUBJECTS, write_store, write_store_in_parts};
use crate::tree::{Node, Tree};

/// A store of one codec.
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
        let whole: fn(&Path, Codec, u64) -> voxquarry::Result<()> = write_store;
        let stores = CODECS.map(|codec| (codec, whole));
        let stores = stores.into_iter().chain([(Codec::Fast, write_store_in_parts as _)]);
        stores
            .map(|(codec, write)| Victim::new(args, codec, write))
            .collect::<Result<_, _>>()
            .map(Self)
    }
}

impl Victim {
    fn new(
        args: &Args,
        codec: Codec,
        write: fn(&Path, Codec, u64) -> voxquarry::Result<()>,
    ) -> Result<Self, String> {
        let folder = tempfile::tempdir_in(args.folder()).map_err(|e| e.to_string())?;
        let store = folder.path().join("s.zarr");
        let generation = |number| {
            Tree::default().restore(&store).map_err(|e| e.to_string())?;
            write(&store, codec, number)
                .and_then(|()| list_subjects(&store))
                .map_err(|e| e.to_string())?;
            Tree::read(&store).map_err(|e| e.to_string())
        };
        let mut old = generation(1)?;
        // A list of a time when there was one subject.
        relist(&store, &SUBJECTS[..1]).map_err(|e| e.to_string())?;
        let listed = fs::read(store.join(ZARR_JSON)).map_err(|e| e.to_string())?;
        old.0.insert(PathBuf::from(ZARR_JSON), Node::File(listed));
        let tree = generation(2)?;
        let expected = observe(&store, Access::Read);
        if has_errors(&expected) || expected != observe(&store, Access::Map) {
            return Err(format!("the store cannot be read: {expected:?}"));
        }
        Ok(Self { folder, tree, old, expected })
    }
}

impl Campaign for Corruptions {
    fn case(&mut self, number: u64, random: &mut Random) -> Verdict {
        let victim = &self.0[number as usize % self.0.len()];
        let store = victim.path();
        let done = damage(victim, random).map_err(|e| format!("cannot damage: {e}"))?;
        let verified = verify(&store, &mut |_| Ok(()));
        let noticed = verified.map_or(true, |report| report.error_count > 0);
        let access = if random.percent(50) { Access::Map } else { Access::Read };
        let found = observe(&store, access);
        victim.tree.restore(&store).map_err(|e| format!("cannot restore: {e}"))?;
        if let Some(wrong) = wrong_answer(&found, &victim.expected) {
            return Err(format!("{}: {wrong}", done.text));
        }
        if done.is_noticeable && !noticed {
            return Err(format!("{}: verify says that all is right", done.text));
        }
        Ok(done.kind)
    }
}

/// What was done to a store.
struct Damage {
    kind: &'static str,
    text: String,
    /// Whether `verify` must say so.
    is_noticeable: bool,
}

/// Damages one file; tries others until something has changed.
fn damage(victim: &Victim, random: &mut Random) -> std::io::Result<Damage> {
    let files = victim.tree.files();
    if random.percent(2) {
        return damage_list(victim, random);
    }
    if random.percent(1) {
        return exchange_subjects(victim);
    }
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
        return Ok(Damage { kind, text, is_noticeable: true });
    }
}

/// Gives the folders of the two subjects each other's name.
fn exchange_subjects(victim: &Victim) -> std::io::Result<Damage> {
    let [first, second] = SUBJECTS.map(|name| victim.path().join(name));
    let aside = victim.path().join("aside");
    fs::rename(&first, &aside)?;
    fs::rename(&second, &first)?;
    fs::rename(&aside, &second)?;
    Ok(Damage { kind: "exchanged subjects", text: SUBJECTS.join(", "), is_noticeable: true })
}

/// Gives the store a list of some subjects, of which it may lack some and have others.
fn damage_list(victim: &Victim, random: &mut Random) -> std::io::Result<Damage> {
    let names = [SUBJECTS[0], SUBJECTS[1], "carla", "dora"];
    let names: Vec<&str> = names.into_iter().filter(|_| random.percent(50)).collect();
    relist(&victim.path(), &names).map_err(std::io::Error::other)?;
    let is_noticeable = !SUBJECTS.iter().all(|name| names.contains(name));
    let kind = if is_noticeable { "a list that lacks a subject" } else { "a list of all subjects" };
    Ok(Damage { kind, text: format!("a list of {names:?}"), is_noticeable })
}

/// Lets the document of a store list these subjects, in a file of its own as writers do.
fn relist(store: &Path, names: &[&str]) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let mut document: Value = serde_json::from_slice(&fs::read(store.join(ZARR_JSON))?)?;
    document["attributes"]["voxquarry"]["subjects"] = json!(names);
    let staged = tempfile::tempdir_in(store.parent().unwrap_or(store))?;
    write_sealed(staged.path(), document["attributes"].take())?;
    Ok(fs::rename(staged.path().join(ZARR_JSON), store.join(ZARR_JSON))?)
}

/// What a damaged file holds, by a number below 80; `None` if nothing would change.
pub(crate) fn damaged(
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
pub(crate) fn replace(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let staged = path.with_file_name(".damaged");
    fs::write(&staged, bytes)?;
    fs::rename(staged, path)
}
