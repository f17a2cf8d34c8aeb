//! All campaigns, and how many cases an hour each has.

use std::time::Duration;

use crate::campaign::Entry;
use crate::corruptions::Corruptions;
use crate::faults::Faults;
use crate::hostile::{self, Hostile};
use crate::limits::{self, Limits};
use crate::stale::Stale;
use crate::unfinished::Unfinished;

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
        name: "unfinished",
        about: "a damaged or lost file of parts and of kept work, which go on: the same result, an \
                error, or damage that verify notices",
        hourly: || 8_000,
        limit: Duration::from_secs(90),
        begin: |args| Ok(Box::new(Unfinished::begin(args)?)),
    },
    Entry {
        name: "stale",
        about: "readers of what others replace, remove and add: the generation that was opened, \
                or an error that names the subject",
        hourly: || 12_000,
        limit: Duration::from_mins(1),
        begin: |args| Ok(Box::new(Stale::begin(args)?)),
    },
    Entry {
        name: "hostile",
        about: "links and special files in a store: nothing outside changes, nothing hangs",
        hourly: || 10 * hostile::COUNT,
        limit: Duration::from_mins(1),
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
