//! The campaigns: what each does with a case, and how many cases an hour has.

use std::time::Duration;

use crate::Args;
use crate::corruptions::Corruptions;
use crate::faults::Faults;
use crate::hostile::{self, Hostile};
use crate::limits::{self, Limits};
use crate::random::Random;
use crate::stale::Stale;

/// What a case has shown: how it ended, for the statistics; or what must never happen.
pub(crate) type Verdict = Result<&'static str, String>;

/// The state of a campaign in one process.
pub(crate) trait Campaign {
    /// Runs case `number`, leaving the state as it was.
    fn case(&mut self, number: u64, random: &mut Random) -> Verdict;
}

/// A campaign that may be run.
pub(crate) struct Entry {
    pub(crate) name: &'static str,
    /// What its cases do, for the report.
    pub(crate) about: &'static str,
    /// Cases in an hour.
    pub(crate) hourly: fn() -> u64,
    /// The time after which a case counts as hanging.
    pub(crate) limit: Duration,
    pub(crate) begin: fn(&Args) -> Result<Box<dyn Campaign>, String>,
}

pub(crate) const CAMPAIGNS: &[Entry] = &[
    Entry {
        name: "corruptions",
        about: "a damaged, exchanged, lost or outdated file: identical answers or errors; verify \
                notices",
        hourly: || 250_000,
        limit: Duration::from_secs(20),
        begin: |args| Ok(Box::new(Corruptions::begin(args)?)),
    },
    Entry {
        name: "faults",
        about: "a command that is killed at a system call, or in which calls fail: exit code 4 \
                and the path, or success; nothing half-written; repeated, the same bytes",
        hourly: || 20_000,
        limit: Duration::from_secs(90),
        begin: |args| Ok(Box::new(Faults::begin(args)?)),
    },
    Entry {
        name: "stale",
        about: "readers of what others replace, remove and add: the generation that was opened, \
                or an error that names the subject",
        hourly: || 12_000,
        limit: Duration::from_secs(60),
        begin: |args| Ok(Box::new(Stale::begin(args)?)),
    },
    Entry {
        name: "hostile",
        about: "links and special files in a store: nothing outside changes, nothing hangs",
        hourly: || 10 * hostile::COUNT,
        limit: Duration::from_secs(60),
        begin: |args| Ok(Box::new(Hostile::begin(args)?)),
    },
    Entry {
        name: "limits",
        about: "little memory, few descriptors, small files, a full disk, another user's store: \
                exit code 4 and the path, or success; repeated, the same bytes",
        hourly: || 4 * limits::count(),
        limit: Duration::from_secs(90),
        begin: |args| Ok(Box::new(Limits::begin(args)?)),
    },
];
