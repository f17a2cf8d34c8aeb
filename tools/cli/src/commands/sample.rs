//! `voxquarry sample`: prints where the patches of a sampler lie.

use serde_json::{Value, json};
use voxquarry::{Error, Result, Subject};

use super::{StoreItem, ingested_for};
use crate::SUCCESS;
use crate::args::SampleArgs;
use crate::output::{json, line};

pub(crate) fn run(args: &SampleArgs) -> Result<u8> {
    let subjects: Vec<Subject> = match StoreItem::open(&args.path)? {
        StoreItem::Dataset(dataset) => {
            let subjects = dataset.subjects().iter().map(|name| dataset.subject(name));
            subjects.collect::<Result<_>>()?
        }
        StoreItem::Subject(subject) => vec![subject],
        StoreItem::Volume(subject, volume) => {
            let path = volume.path().display();
            let reason = format!("{path}: all volumes of a subject are sampled together");
            let remedy = format!("name the subject {:?}", subject.name());
            return Err(Error::unsupported(reason, remedy));
        }
    };
    let mut found: Vec<Value> = Vec::new();
    for subject in &subjects {
        let size = match args.patch_size {
            Some(size) => size,
            None => ingested_for(&subject.first_volume()?),
        };
        let random = "choose uniform, label or weighted";
        let grid = || Error::unsupported("a grid is not random", random);
        let sampler = args.sampler.random(size)?.ok_or_else(grid)?;
        let locations = sampler.locations(subject, args.count, args.sampler.epoch(), args.first)?;
        for (n, location) in (args.first..).zip(locations) {
            let [z, y, x] = location.region.start;
            if args.json {
                found.push(json!({
                    "subject": subject.name(), "n": n, "start": [z, y, x], "size": size,
                }));
            } else {
                line(&format!("{}\t{n}\t{z}\t{y}\t{x}", subject.name()));
            }
        }
    }
    if args.json {
        json(&json!({ "samples": found }));
    }
    Ok(SUCCESS)
}
