//! Links and special files at every place of a store, each led outside or nowhere.
//!
//! Oracle: nothing outside the store changes, no command hangs or dies, and what a reader says is
//! the truth or an error.

use std::fs;
use std::io;
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixListener;
use std::path::Path;

use rustix::fs::{CWD, FileType, Mode, mknodat};
use tempfile::TempDir;

use crate::Args;
use crate::campaign::{Campaign, Verdict};
use crate::random::Random;
use crate::scenarios::Bench;
use crate::strace::limited;
use crate::tree::Tree;

/// Places in the store of [`Bench::common`], and of unfinished work in it.
const PLACES: &[&str] = &[
    "zarr.json",
    "case",
    "case/zarr.json",
    "case/w",
    "case/w/zarr.json",
    "case/w/0",
    "case/w/0/zarr.json",
    "case/w/0/c",
    "case/w/0/c/0/0/0",
    "case/w/shards",
    "case/w/shards/zarr.json",
    "case/w/shards/c/0",
    "case/w/sums",
    "case/w/sums/zarr.json",
    "case/seg/summary",
    "case/seg/summary/zarr.json",
    "case/seg/summary/labels/c/0",
    "case/p",
    "new",
    ".voxquarry-partial",
    ".voxquarry-partial/9-9",
    ".voxquarry-partial/9-9/lock",
    ".voxquarry-partial/9-9/content",
    ".voxquarry-partial/KEPT",
    ".voxquarry-partial/KEPT/kept",
    ".voxquarry-partial/KEPT/arguments",
    ".voxquarry-partial/KEPT/arguments.new",
    ".voxquarry-partial/KEPT/journal",
    ".voxquarry-partial/KEPT/content",
    ".voxquarry-partial/KEPT/content/p",
    ".voxquarry-partial/KEPT/content/p/0/c/0/0/0",
    ".voxquarry-partial/PLAN",
    ".voxquarry-partial/PLAN/kept",
    ".voxquarry-partial/PLAN/plan.json",
    ".voxquarry-partial/PLAN/of-1",
    ".voxquarry-partial/PLAN/0-of-1.lock",
    ".voxquarry-partial/PLAN/finalize.lock",
    ".voxquarry-partial/PLAN/done",
    ".voxquarry-partial/PLAN/done/w",
    ".voxquarry-partial/PLAN/done/.new-w",
    ".voxquarry-partial/PLAN/failed",
    ".voxquarry-partial/PLAN/subjects",
    ".voxquarry-partial/PLAN/subjects/zarr.json",
    ".voxquarry-partial/PLAN/subjects/w",
    ".voxquarry-partial/PLAN/subjects/w/zarr.json",
    ".voxquarry-partial/PLAN/subjects/w/image/0/c/0/0/0",
    ".voxquarry-partial/PART",
    ".voxquarry-partial/PART/kept",
    ".voxquarry-partial/PART/arguments",
    ".voxquarry-partial/PART/journal",
    ".voxquarry-partial/PART/done",
    ".voxquarry-partial/PART/content",
    ".voxquarry-partial/PART/content/q/zarr.json",
    ".voxquarry-partial/PART/content/q/0/c/0/0/0",
    ".voxquarry-partial/JOINED",
    ".voxquarry-partial/JOINED/content",
];

/// What lies there instead.
const TRAPS: &[Trap] = &[
    Trap::Link("folder"),
    Trap::Link("file"),
    Trap::Link("nothing"),
    Trap::Link("fifo"),
    Trap::Device("/dev/zero"),
    Trap::Loop,
    Trap::Copy,
    Trap::Fifo,
    Trap::Socket,
    Trap::Folder,
];

#[derive(Clone, Copy, Debug)]
enum Trap {
    /// A link to a path beside the store.
    Link(&'static str),
    Device(&'static str),
    Loop,
    /// A link to what was there, moved outside.
    Copy,
    Fifo,
    Socket,
    Folder,
}

/// Commands, and whether what they print must be the truth.
const COMMANDS: &[(&str, bool)] = &[
    ("verify @/s.zarr --json", false),
    ("sample @/s.zarr/case --sampler weighted --weights w --patch-size 4 --count 3", true),
    ("info @/s.zarr/case --json", false),
    ("sample @/s.zarr/case --sampler label --labels seg --patch-size 4 --count 3", true),
    ("export @/s.zarr/case/w @/out.nii --overwrite", true),
    ("ingest @/new/w.nii --subject new --image w=@/new/w.nii --quiet --out @/s.zarr", false),
    ("ingest --subject case --image w=@/new/w.nii --quiet --overwrite --out @/s.zarr", false),
    ("+ --blend @/s.zarr/case/p", false),
    ("+ --blend @/s.zarr/case/p --keep", false),
    ("ingest --plan @/plan.json --part 0/1 --quiet", false),
    ("ingest --out @/s.zarr --finalize --quiet", false),
    ("+ --blend @/s.zarr/case/q --part 0/1", false),
    ("finalize @/s.zarr/case/q", false),
];

/// What leaves unfinished work in the store: a blending that may be continued, an ingest whose part
/// is done, and a blending whose part is.
const UNFINISHED: &[&str] = &[
    "+ --blend @/s.zarr/case/p --keep --stop 20",
    "ingest @/new/w.nii --quiet --patch-size 8 --out @/s.zarr --plan @/plan.json",
    "ingest --plan @/plan.json --part 0/1 --quiet",
    "+ --blend @/s.zarr/case/q --part 0/1",
];

/// A number without a common factor with that of the cases, so that few cases are of all kinds.
const STRIDE: u64 = 7919;

/// The number of different cases.
pub(crate) const COUNT: u64 = (PLACES.len() * TRAPS.len() * COMMANDS.len()) as u64;

pub(crate) struct Hostile {
    bench: Bench,
    common: Tree,
    /// What each command says about the untouched store.
    truth: Vec<Said>,
    /// The names of the folders of unfinished work, by what stands for them.
    names: [(&'static str, String); 4],
    /// Holds what nobody may touch.
    outside: TempDir,
}

/// What a command printed, and the file that it wrote.
type Said = (Vec<u8>, Option<Vec<u8>>);

impl Hostile {
    pub(crate) fn begin(args: &Args) -> Result<Self, String> {
        let bench = Bench::new(args)?;
        bench.common()?;
        for words in UNFINISHED {
            bench.run(words)?;
        }
        let partial = bench.path().join("s.zarr/.voxquarry-partial");
        let names = fs::read_dir(&partial).map_err(|e| e.to_string())?.flatten();
        let names: Vec<_> =
            names.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
        let named = |is_it: &dyn Fn(&str) -> bool| {
            names.iter().find(|name| is_it(name)).cloned().ok_or("no work was kept")
        };
        let plan = named(&|name| name.starts_with("kept-subjects-"))?;
        let part = named(&|name| name.ends_with(".0-of-1"))?;
        let kept = named(&|name| name.starts_with("kept-") && *name != plan && *name != part)?;
        let joined = part.replace(".0-of-1", ".joined");
        let names = [("KEPT", kept), ("PLAN", plan), ("PART", part), ("JOINED", joined)];
        let before = bench.tree()?;
        let mut truth = Vec::new();
        for (words, says_truth) in COMMANDS {
            let wanted = if *says_truth { bench.run(words)?.stdout } else { Vec::new() };
            truth.push((wanted, fs::read(bench.path().join("out.nii")).ok()));
            // The sums that were written stay: they are a place, too.
            let sums = bench.path().join("s.zarr/case/w/sums");
            if !sums.exists() {
                before.restore(bench.path()).map_err(|e| e.to_string())?;
            }
        }
        let _ = fs::remove_file(bench.path().join("out.nii"));
        let common = bench.tree()?;
        let outside = tempfile::tempdir_in(args.folder()).map_err(|e| e.to_string())?;
        Ok(Self { bench, common, truth, names, outside })
    }

    /// Lays a trap at a place, which may hold something.
    fn lay(&self, place: &Path, trap: Trap) -> io::Result<()> {
        let moved = self.outside.path().join("moved");
        if let Some(folder) = place.parent() {
            fs::create_dir_all(folder)?;
        }
        if place.symlink_metadata().is_ok() {
            fs::rename(place, &moved)?;
        }
        match trap {
            Trap::Link(target) => symlink(self.outside.path().join(target), place),
            Trap::Device(target) => symlink(target, place),
            Trap::Loop => symlink(place.file_name().unwrap_or_default(), place),
            Trap::Copy => symlink(moved, place),
            Trap::Fifo => Ok(mknodat(CWD, place, FileType::Fifo, Mode::RWXU, 0)?),
            Trap::Socket => UnixListener::bind(place).map(drop),
            Trap::Folder => fs::create_dir(place),
        }
    }

    /// Makes what lies outside the store, in the forms that a careless writer would empty.
    fn make_outside(&self) -> io::Result<()> {
        let root = self.outside.path();
        Tree::default().restore(root)?;
        for file in ["file", "folder/lock", "folder/kept", "folder/zarr.json", "folder/c/0"] {
            let path = root.join(file);
            fs::create_dir_all(path.parent().unwrap_or(root))?;
            fs::write(path, format!("precious: {file}"))?;
        }
        Ok(mknodat(CWD, root.join("fifo"), FileType::Fifo, Mode::RWXU, 0)?)
    }
}

impl Campaign for Hostile {
    fn case(&mut self, number: u64, random: &mut Random) -> Verdict {
        let at = (number.wrapping_mul(STRIDE) % COUNT) as usize;
        let (rest, command) = (at / COMMANDS.len(), at % COMMANDS.len());
        let (place, trap) = (PLACES[rest / TRAPS.len()], TRAPS[rest % TRAPS.len()]);
        let (words, says_truth) = COMMANDS[command];
        let store = self.bench.path().join("s.zarr");
        let context = |message: String| format!("{trap:?} at {place}: {words}: {message}");
        let mut setup = || -> io::Result<Tree> {
            self.common.restore(self.bench.path())?;
            self.make_outside()?;
            if random.percent(50) && !place.contains("sums") {
                fs::remove_dir_all(store.join("case/w/sums"))?;
            }
            let mut named = place.to_owned();
            for (stands_for, name) in &self.names {
                named = named.replace(stands_for, name);
            }
            self.lay(&store.join(named), trap)?;
            Tree::read(self.outside.path())
        };
        let outside = setup().map_err(|e| context(format!("cannot lay: {e}")))?;
        let mut limited = limited(&[], &self.bench.command(words));
        let output = limited.output().map_err(|e| e.to_string())?;
        let after = Tree::read(self.outside.path()).map_err(|e| e.to_string())?;
        if let Some(difference) = after.difference(&outside) {
            return Err(context(format!("outside of the store {difference}")));
        }
        let is_beside = |path: &Path| !path.starts_with("s.zarr") && path != Path::new("out.nii");
        let beside = self.bench.tree()?.filter(is_beside);
        if let Some(difference) = beside.difference(&self.common.filter(is_beside)) {
            return Err(context(format!("beside the store {difference}")));
        }
        let said = String::from_utf8_lossy(&output.stderr);
        match output.status.code() {
            Some(0) if says_truth => {
                let file = fs::read(self.bench.path().join("out.nii")).ok();
                let wrote = words.starts_with("export");
                let (printed, expected) = &self.truth[command];
                if output.stdout != *printed || wrote && file != *expected {
                    return Err(context("it succeeded and said something else".to_owned()));
                }
                Ok("the truth")
            }
            Some(0) if command == 0 && is_noticeable(place, trap) => {
                Err(context("verify says that all is right".to_owned()))
            }
            Some(0) => Ok("success"),
            Some(2..=4) if said.contains("error: ") || command == 0 => Ok("an error"),
            _ => Err(context(format!("{}, {said:.300}", output.status))),
        }
    }
}

/// Whether `verify` must notice a trap: it lies in what readers see. An empty folder in place of a
/// whole subject is no more to be noticed than none.
fn is_noticeable(place: &str, trap: Trap) -> bool {
    let is_published = !place.starts_with('.') && !["new", "case/p"].contains(&place);
    is_published && !(place == "case" && matches!(trap, Trap::Folder))
}
