//! Delivers batches of random patches, read ahead by threads, for two epochs of a training loop:
//! `cargo run --example train_queue -- STORE`.
//!
//! Without a path the example reads a small synthetic store.

use std::error::Error;
use std::path::Path;

use voxquarry::format::attributes::Kind;
use voxquarry::{Dataset, UniformSampler};
use voxquarry::{LabelSampler, OpenOptions, Queue, QueueOptions, QueueStats, Result, Sampler};

mod phantom;

/// The counters of a queue that has delivered two epochs of all volumes.
pub(crate) fn train(store: &Path) -> Result<QueueStats> {
    let dataset = Dataset::open(store, &OpenOptions::default().cache_bytes(64 << 20))?;
    let subject = dataset.subject(&dataset.subjects()[0])?;
    let names = subject.volumes();
    let volumes = names.iter().map(|name| subject.volume(name)).collect::<Result<Vec<_>>>()?;

    // With a label map, every patch is centred on a voxel of the foreground.
    let sampler: Sampler = match volumes.iter().find(|volume| volume.kind() == Kind::Labels) {
        Some(labels) => LabelSampler::new([16; 3], labels.name())?.into(),
        None => UniformSampler::new([16; 3])?.into(),
    };
    let options = QueueOptions::default().volumes(names).patches_per_subject(6).batch_size(4);
    let queue = Queue::new(&dataset, sampler, options.seed(42))?;
    for epoch in 0..2 {
        queue.set_epoch(epoch); // Other patches in another order.
        for batch in queue.batches()? {
            let batch = batch?;
            for (i, name) in batch.volumes().enumerate() {
                // Train here: `batch.array::<i16>("ct")` is the array of a volume.
                println!("epoch {epoch}: {name} {:?} (patches, c, z, y, x)", batch.shape(i));
            }
        }
    }
    Ok(queue.stats())
}

fn main() -> Result<(), Box<dyn Error>> {
    let store = phantom::ExampleStore::from_arguments()?;
    let stats = train(store.path())?;
    println!("{} patches, {:?} of {:?} stalled", stats.patches, stats.stall, stats.elapsed);
    Ok(())
}
