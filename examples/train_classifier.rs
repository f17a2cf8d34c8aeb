//! Trains a classifier of voxels on the batches of a queue, and tries it on a whole volume:
//! `cargo run --example train_classifier -- STORE`.
//!
//! The classifier is logistic regression on the voxel's value `v`, the smallest model there is: the
//! probability of the foreground is 1 / (1 + exp(-(weight · v + bias))). Without a path the example
//! reads a small synthetic store.

use std::error::Error;
use std::path::Path;

use voxquarry::{Dataset, LabelSampler, OpenOptions, Queue, QueueOptions, Region, Result};

mod phantom;

/// What has been learnt of values in thousands.
#[derive(Default)]
pub(crate) struct Classifier {
    weight: f64,
    bias: f64,
}

impl Classifier {
    fn probability(&self, value: i16) -> f64 {
        1.0 / (1.0 + (-(self.weight * f64::from(value) / 1000.0 + self.bias)).exp())
    }

    /// One step of gradient descent on a batch; returns the loss before it.
    fn step(&mut self, values: &[i16], labels: &[u8], rate: f64) -> f64 {
        let (mut loss, mut by_weight, mut by_bias) = (0.0, 0.0, 0.0);
        for (&value, &label) in values.iter().zip(labels) {
            let (found, wanted) = (self.probability(value), f64::from(label));
            loss -= if label == 1 { found } else { 1.0 - found }.max(1e-12).ln();
            by_weight += (found - wanted) * f64::from(value) / 1000.0;
            by_bias += found - wanted;
        }
        let voxels = values.len() as f64;
        self.weight -= rate * by_weight / voxels;
        self.bias -= rate * by_bias / voxels;
        loss / voxels
    }
}

/// Trains for ten epochs; returns the classifier and the mean loss of each epoch.
pub(crate) fn train(store: &Path) -> Result<(Classifier, Vec<f64>)> {
    let dataset = Dataset::open(store, &OpenOptions::default())?;
    let sampler = LabelSampler::new([16; 3], "seg")?;
    let options = QueueOptions::default().volumes(["ct", "seg"]).patches_per_subject(16);
    let queue = Queue::new(&dataset, sampler, options.batch_size(4).seed(42))?;
    let (mut classifier, mut losses) = (Classifier::default(), Vec::new());
    for epoch in 0..10 {
        queue.set_epoch(epoch); // Other patches in another order.
        let (mut sum, mut batches) = (0.0, 0);
        for batch in queue.batches()? {
            let batch = batch?; // Read and decoded ahead, while the last one was trained on.
            sum += classifier.step(batch.voxels("ct")?, batch.voxels("seg")?, 20.0);
            batches += 1;
        }
        losses.push(sum / f64::from(batches));
    }
    Ok((classifier, losses))
}

/// The share of a subject's voxels that the classifier gets right.
pub(crate) fn accuracy(classifier: &Classifier, store: &Path, subject: &str) -> Result<f64> {
    let subject = voxquarry::open(store)?.subject(subject)?;
    let (ct, seg) = (subject.volume("ct")?, subject.volume("seg")?);
    let whole = Region::new([0; 3], ct.size());
    let (values, labels) = (ct.read::<i16>(whole)?, seg.read::<u8>(whole)?);
    let pairs = values.iter().zip(&labels);
    let right = pairs.filter(|&(&v, &label)| (classifier.probability(v) > 0.5) == (label == 1));
    Ok(right.count() as f64 / values.len() as f64)
}

fn main() -> Result<(), Box<dyn Error>> {
    let store = phantom::ExampleStore::from_arguments()?;
    let (classifier, losses) = train(store.path())?;
    for (epoch, loss) in losses.iter().enumerate() {
        println!("epoch {epoch}: mean loss {loss:.4}");
    }
    let right = accuracy(&classifier, store.path(), "case01")?;
    println!("case01: {:.2} % of the voxels are right", 100.0 * right);
    Ok(())
}
