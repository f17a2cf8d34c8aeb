//! Reports the progress of ingests and exports to an observer, which can stop them.

use std::sync::atomic::{AtomicBool, Ordering};

use voxquarry::{Error, Result};

/// Progress of a run, as told to an [`Observer`].
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub enum Event<'a> {
    /// The headers of a subject are read.
    Planning {
        /// Subjects before it.
        done: usize,
        /// Subjects in all.
        of: usize,
    },
    /// The source of a published volume is read to the end, to compare its digest.
    Comparing {
        /// Its subject.
        subject: &'a str,
        /// Its name.
        volume: &'a str,
        /// Bytes of the file.
        bytes: u64,
    },
    /// That many more bytes of the source were compared.
    Compared(u64),
    /// The plan is made, and encoding begins.
    Begin {
        /// Subjects that will be written.
        subjects: usize,
        /// Subjects that exist already and are skipped.
        skipped: usize,
        /// Bytes of voxels to encode.
        bytes: u64,
    },
    /// A volume begins.
    Volume {
        /// Its subject.
        subject: &'a str,
        /// Its name.
        volume: &'a str,
    },
    /// The foreground of a subject is measured.
    Measuring {
        /// Its name.
        subject: &'a str,
    },
    /// That many more bytes of voxels were encoded, exported or measured, or copied and measured
    /// on the way into a volume whose voxels are changed; of the volume that began last on
    /// the same thread.
    Encoded(u64),
    /// A subject is published.
    Published {
        /// Its name.
        subject: &'a str,
        /// Bytes of its voxels, uncompressed.
        voxel_bytes: u64,
        /// Bytes of its files.
        stored_bytes: u64,
    },
    /// A subject could not be ingested; the report has the reason.
    Failed {
        /// Its name.
        subject: &'a str,
    },
}

/// Receives the events of a run, and can stop it. Subjects that are ingested side by side call it
/// from several threads.
pub trait Observer: Sync {
    /// Receives an event.
    fn event(&self, event: Event<'_>);
    /// Whether to stop; called between layers, and before a subject is published.
    fn interrupted(&self) -> bool;
}

/// An observer that ignores every event and never stops.
#[derive(Clone, Copy, Debug)]
pub struct NoopObserver;

impl Observer for NoopObserver {
    fn event(&self, _: Event<'_>) {}
    fn interrupted(&self) -> bool {
        false
    }
}

/// An observer that is asked on the caller's thread, too: Python handles Ctrl-C only there.
pub(crate) struct WatchedObserver<'a> {
    observer: &'a dyn Observer,
    stopped: AtomicBool,
}

impl<'a> WatchedObserver<'a> {
    pub(crate) fn new(observer: &'a dyn Observer) -> Self {
        Self { observer, stopped: AtomicBool::new(false) }
    }

    /// Asks whether to stop, for all threads.
    pub(crate) fn look(&self) {
        if self.observer.interrupted() {
            self.stopped.store(true, Ordering::Relaxed);
        }
    }
}

impl Observer for WatchedObserver<'_> {
    fn event(&self, event: Event<'_>) {
        self.observer.event(event);
    }

    fn interrupted(&self) -> bool {
        self.stopped.load(Ordering::Relaxed) || self.observer.interrupted()
    }
}

/// Returns an error once `observer` asks to stop.
pub(crate) fn check_interrupt(observer: &dyn Observer) -> Result<()> {
    if observer.interrupted() { Err(Error::Interrupted) } else { Ok(()) }
}
