//! What a campaign is, and what its cases show.

use std::time::Duration;

use crate::Args;
use crate::random::Random;

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
