//! An observer that records the events of a run, and stops it after a number of layers.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use voxquarry_ingest::{Event, Observer};

/// Records every event; asks to stop after `stop_after` layers.
pub struct RecordingObserver {
    pub events: Mutex<Vec<String>>,
    layers: AtomicUsize,
    stop_after: usize,
}

impl RecordingObserver {
    pub fn new() -> Self {
        Self::stopping_after(usize::MAX)
    }

    pub fn stopping_after(layers: usize) -> Self {
        Self { events: Mutex::default(), layers: AtomicUsize::new(0), stop_after: layers }
    }

    pub fn layers(&self) -> usize {
        self.layers.load(Ordering::Relaxed)
    }
}

impl Observer for RecordingObserver {
    fn event(&self, event: Event<'_>) {
        let text = match event {
            Event::Begin { subjects, skipped, bytes } => {
                format!("begin {subjects}, skipped {skipped}, {bytes} bytes")
            }
            Event::Volume { subject, volume } => format!("volume {subject}/{volume}"),
            Event::Encoded(_) => {
                self.layers.fetch_add(1, Ordering::Relaxed);
                return;
            }
            Event::Published { subject, .. } => format!("published {subject}"),
            Event::Failed { subject } => format!("failed {subject}"),
            Event::Comparing { subject, volume, bytes } => {
                format!("comparing {subject}/{volume}, {bytes} bytes")
            }
            _ => return,
        };
        self.events.lock().unwrap().push(text);
    }

    fn interrupted(&self) -> bool {
        self.layers() >= self.stop_after
    }
}
