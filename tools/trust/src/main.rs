//! Tries to make Voxquarry lie: damages stores, kills and starves writers, exchanges what readers
//! hold open, and leads them astray; and compares what they say with the truth.
//!
//! A *campaign* is a list of cases. A seed, the campaign's name and the number of a case determine
//! the case, so a finding is repeated by its number. Cases run in child processes, which may crash,
//! hang or run out of memory; the parent watches them ([`watch`]).
//!
//! The exit code is 0 if no case found anything, 1 otherwise.

mod blend;
mod campaign;
mod campaigns;
mod commands;
mod corruptions;
mod faults;
mod hostile;
mod limits;
mod observe;
mod outcome;
mod random;
mod resumed;
mod scenarios;
mod stale;
mod stores;
mod strace;
mod tree;
mod truth;
mod unfinished;
mod watch;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{SystemTime, UNIX_EPOCH};

use clap::Parser;
use voxquarry::Part;

use campaigns::CAMPAIGNS;
use watch::Watch;

/// Damages, kills, fools and starves Voxquarry, and compares what it says with the truth.
#[derive(Parser, Debug)]
#[command(version)]
pub(crate) struct Args {
    /// Scales the number of cases; 3600 stands for about an hour on two cores.
    #[arg(long, default_value_t = 3600.0)]
    pub(crate) seconds: f64,
    /// Repeats the cases of an earlier run; default: from the clock.
    #[arg(long)]
    pub(crate) seed: Option<u64>,
    /// Runs only this campaign; may be repeated.
    #[arg(long)]
    pub(crate) only: Vec<String>,
    /// Runs only the case of this number.
    #[arg(long)]
    pub(crate) case: Option<u64>,
    /// Cases that run at the same time; default: one for each core.
    #[arg(long)]
    pub(crate) jobs: Option<u64>,
    /// Folder for the stores; default: memory, if the system has such a folder.
    #[arg(long)]
    pub(crate) dir: Option<PathBuf>,
    /// The command `voxquarry`; default: beside this program.
    #[arg(long)]
    pub(crate) voxquarry: Option<PathBuf>,
    /// A child: runs the cases of one campaign that its standard input names.
    #[arg(long, hide = true)]
    pub(crate) child: Option<String>,
    /// A writer to be killed: blends predictions into STORE/SUBJECT/VOLUME.
    #[arg(long, hide = true)]
    pub(crate) blend: Option<PathBuf>,
    /// Keeps the unfinished work of `--blend`.
    #[arg(long, hide = true)]
    pub(crate) keep: bool,
    /// Ends `--blend` after so many patches.
    #[arg(long, hide = true)]
    pub(crate) stop: Option<usize>,
    /// Blends a part alone, as in 0/2.
    #[arg(long, hide = true)]
    pub(crate) part: Option<Part>,
}

impl Args {
    /// The folder for stores.
    pub(crate) fn folder(&self) -> PathBuf {
        let memory = PathBuf::from("/dev/shm");
        let default = if memory.is_dir() { memory } else { std::env::temp_dir() };
        self.dir.clone().unwrap_or(default)
    }

    /// The command under test.
    pub(crate) fn command(&self) -> PathBuf {
        let own = std::env::current_exe().unwrap_or_default();
        self.voxquarry.clone().unwrap_or_else(|| own.with_file_name("voxquarry"))
    }
}

fn main() -> ExitCode {
    let mut args = Args::parse();
    let clock = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs());
    let seed = *args.seed.get_or_insert(clock);
    if let Some(out) = &args.blend {
        return blend::run(out, args.keep, args.stop, args.part);
    }
    if let Some(campaign) = &args.child {
        return watch::child(campaign, &args);
    }
    println!("seed {seed}: repeat with TRUST_SEED={seed} make trust, or --seed {seed}");
    let mut findings = 0;
    for campaign in CAMPAIGNS {
        if args.only.is_empty() || args.only.iter().any(|name| name == campaign.name) {
            findings += Watch::new(campaign, &args).run();
        }
    }
    println!("{findings} findings");
    ExitCode::from(u8::from(findings > 0))
}
