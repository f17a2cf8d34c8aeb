//! `voxquarry info`: describes a store, a subject or a volume.

use serde_json::{Value, json};
use voxquarry::format::attributes::{Kind, LabelName};
use voxquarry::{Dataset, Error, Result, Size3, Subject, Volume};

use super::StoreItem;
use crate::SUCCESS;
use crate::args::InfoArgs;
use crate::output::{bytes, extents, json, line};

pub(crate) fn run(args: &InfoArgs) -> Result<u8> {
    match StoreItem::open(&args.path)? {
        StoreItem::Dataset(dataset) => {
            if args.json {
                let subjects = dataset
                    .subjects()
                    .iter()
                    .map(|name| subject_json(&dataset.subject(name)?))
                    .collect::<Result<Vec<_>>>()?;
                json(&json!({
                    "store": dataset.path().to_string_lossy(),
                    "subjects": subjects,
                    "splits": dataset.splits()?,
                }));
            } else {
                dataset_text(&dataset)?;
            }
        }
        StoreItem::Subject(subject) if args.json => json(&subject_json(&subject)?),
        StoreItem::Subject(subject) => {
            for name in subject.volumes() {
                volume_text(&subject.volume(name)?)?;
            }
        }
        StoreItem::Volume(_, volume) if args.json => json(&volume_json(&volume)?),
        StoreItem::Volume(_, volume) => volume_text(&volume)?,
    }
    Ok(SUCCESS)
}

fn dataset_text(dataset: &Dataset) -> Result<()> {
    line(&format!("{}: {} subjects", dataset.path().display(), dataset.subjects().len()));
    for name in dataset.subjects() {
        let subject = dataset.subject(name)?;
        let describe = |name: &String| {
            let volume = subject.volume(name)?;
            Ok(format!("{name} {} {}", extents(&volume.shape()), volume.dtype()))
        };
        let volumes = subject.volumes().iter().map(describe).collect::<Result<Vec<_>>>()?;
        line(&format!("  {name}: {}", volumes.join(", ")));
    }
    for (split, subjects) in dataset.splits()? {
        line(&format!("  split {split}: {} subjects", subjects.len()));
    }
    Ok(())
}

fn subject_json(subject: &Subject) -> Result<Value> {
    let volumes = subject
        .volumes()
        .iter()
        .map(|name| volume_json(&subject.volume(name)?))
        .collect::<Result<Vec<_>>>()?;
    Ok(json!({ "subject": subject.name(), "volumes": volumes, "splits": subject.splits() }))
}

fn volume_json(volume: &Volume) -> Result<Value> {
    let (layout, attributes) = (volume.layout(), volume.attributes());
    let (slope, intercept) = volume.slope_intercept();
    let mut info = json!({
        "volume": volume.name(),
        "kind": volume.kind().name(),
        "shape": volume.shape(),
        "dtype": volume.dtype().name(),
        "spacing_mm": volume.spacing_mm(),
        "affine": volume.affine(),
        "unit": volume.unit().name(),
        "slope": slope,
        "intercept": intercept,
        "chunk": layout.chunk,
        "shard": layout.shard,
        "codec": attributes.codec,
        "patch_sizes": attributes.patch_sizes,
        "statistics": volume.statistics(),
        "voxel_bytes": volume.voxel_bytes(),
        "stored_bytes": stored_bytes(volume)?,
        "source": volume.source().map(|s| {
            json!({ "name": s.name, "bytes": s.bytes, "sha256": s.sha256 })
        }),
        "changes": changes_of(volume),
        "levels": levels_of(volume)?,
    });
    if volume.kind() == Kind::Labels {
        let labels: Vec<Value> = volume
            .label_counts()?
            .totals()
            .into_iter()
            .map(|(label, voxels)| json!({ "label": label, "voxels": voxels }))
            .collect();
        info["labels"] = labels.into();
        info["label_names"] = json!(volume.labels());
    }
    Ok(info)
}

/// The bytes of a volume's files; `None` on a server, where they cannot be listed.
fn stored_bytes(volume: &Volume) -> Result<Option<u64>> {
    match volume.stored_bytes() {
        Err(Error::Unsupported { .. }) => Ok(None),
        stored => stored.map(Some),
    }
}

/// What each coarser level is like; their documents are read.
fn levels_of(volume: &Volume) -> Result<Vec<Value>> {
    let describe = |(number, factors): (usize, Size3)| {
        let level = volume.level(number)?;
        Ok(json!({
            "level": number,
            "factors": factors,
            "shape": level.shape(),
            "spacing_mm": level.spacing_mm(),
            "statistics": level.statistics(),
        }))
    };
    volume.levels().into_iter().enumerate().skip(1).map(describe).collect()
}

/// What ingest changed of the voxels of the source, if it did.
fn changes_of(volume: &Volume) -> Option<&Value> {
    volume.source()?.origin.get("changes")
}

fn volume_text(volume: &Volume) -> Result<()> {
    let [z, y, x] = volume.spacing();
    let (stored, raw) = (stored_bytes(volume)?, volume.voxel_bytes());
    line(&format!("{} ({})", volume.name(), volume.kind().name()));
    line(&format!("  voxels   {} {}, {}", extents(&volume.shape()), volume.dtype(), bytes(raw)));
    let unit = volume.unit().symbol();
    line(&format!("  spacing  {z:.4} × {y:.4} × {x:.4} {unit} (z, y, x)"));
    let (slope, intercept) = volume.slope_intercept();
    line(&format!("  scaling  value × {slope} + {intercept}"));
    let (layout, codec) = (volume.layout(), &volume.attributes().codec);
    line(&format!(
        "  layout   chunk {}, shard {}, codec {codec}",
        extents(&layout.chunk),
        extents(&layout.shard)
    ));
    for number in 1..volume.levels().len() {
        let (title, level) = (if number == 1 { "levels" } else { "" }, volume.level(number)?);
        let [z, y, x] = level.spacing();
        let shape = extents(&level.shape());
        line(&format!("  {title:<7}  {number}: {shape}, {z:.4} × {y:.4} × {x:.4} {unit}"));
    }
    if let Some(stored) = stored {
        line(&format!("  on disk  {}, ratio {:.2}", bytes(stored), raw as f64 / stored as f64));
    }
    let statistics = volume.statistics();
    let text =
        |n: &Option<serde_json::Number>| n.as_ref().map_or("none".to_owned(), ToString::to_string);
    let number = |n: Option<f64>| n.map_or("none".to_owned(), |v| format!("{v:.6}"));
    line(&format!(
        "  values   min {}, max {}, mean {}, std {}, {} not finite",
        text(&statistics.min),
        text(&statistics.max),
        number(statistics.mean),
        number(statistics.std),
        statistics.non_finite,
    ));
    if let Some(source) = volume.source() {
        line(&format!(
            "  source   {}, {}, sha256 {}",
            source.name,
            bytes(source.bytes),
            source.sha256
        ));
    }
    if let Some(Value::Object(changes)) = changes_of(volume) {
        let change = |(name, value): (&String, &Value)| format!("{name} {value}");
        line(&format!("  changes  {}", changes.iter().map(change).collect::<Vec<_>>().join(", ")));
    }
    if volume.kind() == Kind::Labels {
        const SHOWN: usize = 20;
        let totals = volume.label_counts()?.totals();
        let shown: Vec<String> =
            totals.iter().take(SHOWN).map(|(label, n)| format!("{label}: {n}")).collect();
        let more = if totals.len() > SHOWN {
            format!(", … ({} in all)", totals.len())
        } else {
            String::new()
        };
        line(&format!("  labels   {}{more}", shown.join(", ")));
        let named = |label: &LabelName| {
            let ids: Vec<_> = label.ids.iter().map(ToString::to_string).collect();
            format!("{}: {}", ids.join("+"), label.name)
        };
        let names: Vec<_> = volume.labels().iter().map(named).collect();
        if !names.is_empty() {
            line(&format!("  names    {}", names.join(", ")));
        }
    }
    Ok(())
}
