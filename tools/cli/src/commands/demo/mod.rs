//! `voxquarry demo`: runs every step once on one image, and measures it.

mod files;
mod phantom;
mod run;

use std::io::{IsTerminal, Write, stderr};
use std::path::{Path, PathBuf};
use std::time::Instant;

use serde_json::{Value, json};
use voxquarry::format::attributes::Kind;
use voxquarry::{Dataset, Error, IfExists, OpenOptions, Result, Volume, verify};
use voxquarry_ingest::{IngestOptions, Manifest, Source, export_observed, ingest};

use super::preview::{draw_to, uniform_patches};
use crate::SUCCESS;
use crate::args::DemoArgs;
use crate::output::{bytes, extents, json, line};
use crate::picture::Style;
use crate::progress::{Progress, Show, catch_interrupts};
use files::DemoFolder;

const SUBJECT: &str = "demo";
const IMAGE: &str = "image";
const LABELS: &str = "labels";
const IDENTITY: &str = "identity";

/// One run of the demo, with its results so far.
struct Demo {
    folder: DemoFolder,
    image: PathBuf,
    labels: Option<PathBuf>,
    as_json: bool,
    results: serde_json::Map<String, Value>,
}

pub(crate) fn run(args: &DemoArgs) -> Result<u8> {
    catch_interrupts()?;
    let folder = DemoFolder::prepare(&args.dir)?;
    let (image, labels) = match &args.image {
        Some(image) => (image.clone(), args.labels.clone()),
        None => (folder.join("phantom.nii.gz"), Some(folder.join("phantom-labels.nii.gz"))),
    };
    let results = serde_json::Map::new();
    let mut demo = Demo { folder, image, labels, as_json: args.json, results };
    demo.results.insert("phantom".into(), args.image.is_none().into());
    if let (None, Some(labels)) = (&args.image, &demo.labels) {
        demo.say("no --image was given: using a phantom, which is computed now");
        phantom::write(&demo.image, labels)?;
    }
    let is_equal = demo.run()?;
    demo.print_results();
    if is_equal {
        return Ok(SUCCESS);
    }
    let message =
        "the output differs from the input: see the results above, and report it as a bug";
    Err(Error::data(&demo.image, message))
}

impl Demo {
    /// Runs all steps; returns whether every output equals its input.
    fn run(&mut self) -> Result<bool> {
        let exported = self.folder.exported(&self.image)?;
        self.ingest()?;
        self.read_patches()?;
        let mut is_equal = self.slide()?;
        is_equal &= self.verify()?;
        is_equal &= self.export(&exported)?;
        self.draw()?;
        Ok(is_equal)
    }

    fn say(&self, text: &str) {
        if self.as_json {
            let _ = writeln!(stderr().lock(), "{text}");
        } else {
            line(text);
        }
    }

    fn record(&mut self, key: &str, result: Value) {
        self.results.insert(key.to_owned(), result);
    }

    /// A bar on a terminal. A log only has the lines of the demo itself.
    fn progress() -> Progress {
        let show = if stderr().is_terminal() { Show::Progress } else { Show::Nothing };
        Progress::new(show)
    }

    fn image(&self) -> Result<Volume> {
        let options = OpenOptions::default();
        Dataset::open(self.folder.store(), &options)?.subject(SUBJECT)?.volume(IMAGE)
    }

    fn ingest(&mut self) -> Result<()> {
        self.say(&format!("ingesting {}", self.image.display()));
        let mut manifest = Manifest::new();
        let labels = self.labels.as_ref().map(|path| (LABELS, Kind::Labels, path));
        for (volume, kind, path) in [(IMAGE, Kind::Image, &self.image)].into_iter().chain(labels) {
            manifest.push(Source::new(SUBJECT, volume, kind, path.as_path()))?;
        }
        let started = Instant::now();
        let store = self.folder.store();
        ingest(&manifest, &store, &IngestOptions::default(), &Self::progress())?;
        let seconds = started.elapsed().as_secs_f64();
        let volume = self.image()?;
        let (raw, stored) = (volume.voxel_bytes(), volume.stored_bytes()?);
        let source = files::bytes_of(&self.image)?;
        let ratio = raw as f64 / stored as f64;
        self.say(&format!(
            "  {} {}, chunk {}: {} of voxels stored as {}, ratio {ratio:.2} (the file has {})",
            extents(&volume.shape()),
            volume.dtype(),
            extents(&volume.layout().chunk),
            bytes(raw),
            bytes(stored),
            bytes(source),
        ));
        self.record("image", self.image.to_string_lossy().into());
        self.record("store", store.to_string_lossy().into());
        self.record("shape", volume.shape().into());
        self.record("dtype", volume.dtype().name().into());
        self.record("spacing_mm", json!(volume.spacing_mm()));
        let result = json!({
            "seconds": seconds, "voxel_bytes": raw, "stored_bytes": stored,
            "source_bytes": source, "ratio": ratio,
        });
        self.record("ingest", result);
        Ok(())
    }

    fn read_patches(&mut self) -> Result<()> {
        let volume = self.image()?;
        let (size, channels) = (run::patch_size(&volume), run::channels_of(&volume));
        let n = run::PATCHES;
        let all = volume.channels().unwrap_or(1);
        let part =
            if channels < all { format!(", {channels} of {all} channels") } else { String::new() };
        self.say(&format!("reading {n} random patches of {}{part}", extents(&size)));
        let store = self.folder.store();
        let patch_bytes = size.iter().product::<usize>() * channels * volume.dtype().size();
        let mut result = json!({ "count": n, "size": size, "channels": channels });
        let cached = OpenOptions::default().get_cache_bytes();
        let runs = [("uncached_", 0, "no cache"), ("", cached, "with a cache of decoded chunks")];
        for (prefix, cache_bytes, words) in runs {
            let seconds = run::read_patches(&store, cache_bytes)?;
            let per_second = n as f64 / seconds;
            let mb_per_second = per_second * patch_bytes as f64 / 1e6;
            self.say(&format!("  {per_second:.0} patches/s, {mb_per_second:.0} MB/s, {words}"));
            result[format!("{prefix}seconds")] = seconds.into();
            result[format!("{prefix}per_second")] = per_second.into();
            result[format!("{prefix}mb_per_second")] = mb_per_second.into();
        }
        self.record("patches", result);
        Ok(())
    }

    fn slide(&mut self) -> Result<bool> {
        self.say("blending sliding-window patches of an identity model, overlap one half");
        let blended = run::slide(&self.folder.store())?;
        let verdict = if blended.is_equal { "equals" } else { "DIFFERS FROM" };
        self.say(&format!(
            "  {} patches in {:.2} s; the result {verdict} the image, max difference {}",
            blended.patches, blended.seconds, blended.max_difference
        ));
        let result = json!({
            "patches": blended.patches, "window": "hann", "seconds": blended.seconds,
            "max_difference": blended.max_difference, "equal": blended.is_equal,
        });
        self.record("sliding_window", result);
        Ok(blended.is_equal)
    }

    fn verify(&mut self) -> Result<bool> {
        self.say("verifying the store");
        let started = Instant::now();
        let report = verify(&self.folder.store(), &mut |_| Ok(()))?;
        let (ok, seconds) = (report.error_count == 0, started.elapsed().as_secs_f64());
        report.errors.iter().for_each(crate::output::print_error);
        let verdict =
            if ok { "no damage".to_owned() } else { format!("{} errors", report.error_count) };
        self.say(&format!("  {verdict}: {} chunks in {seconds:.2} s", report.chunks));
        let result = json!({ "ok": ok, "chunks": report.chunks, "seconds": seconds });
        self.record("verify", result);
        Ok(ok)
    }

    fn export(&mut self, out: &Path) -> Result<bool> {
        self.say(&format!("exporting to {}", out.display()));
        let started = Instant::now();
        let (volume, progress) = (self.image()?, Self::progress());
        progress.begin(volume.voxel_bytes());
        let exported = export_observed(&volume, out, IfExists::Replace, &progress);
        progress.end();
        exported?;
        let seconds = started.elapsed().as_secs_f64();
        let is_equal = files::equal(&self.image, out)?;
        let verdict = if is_equal { "equals" } else { "DIFFERS FROM" };
        self.say(&format!("  {verdict} the input, byte for byte after decompression"));
        let result =
            json!({ "path": out.to_string_lossy(), "seconds": seconds, "equal": is_equal });
        self.record("export", result);
        Ok(is_equal)
    }

    fn draw(&mut self) -> Result<()> {
        let out = self.folder.join("preview.png");
        self.say(&format!("drawing {}", out.display()));
        let options = OpenOptions::default();
        let subject = Dataset::open(self.folder.store(), &options)?.subject(SUBJECT)?;
        let volume = subject.volume(IMAGE)?;
        let (patches, caption) = uniform_patches(&subject, run::patch_size(&volume), 8, 0)?;
        draw_to(
            &subject,
            &volume,
            &patches,
            &[],
            (caption, Style::default()),
            (&out, IfExists::Replace),
        )?;
        self.record("picture", out.to_string_lossy().into());
        Ok(())
    }

    fn print_results(&self) {
        if self.as_json {
            return json(&Value::Object(self.results.clone()));
        }
        let result = |key: &str, part: &str| &self.results[key][part];
        let number = |key, part| result(key, part).as_f64().expect("a number");
        let yes = |key, part| if result(key, part) == true { "yes" } else { "NO" };
        line("");
        line(&format!("random patches        {:.0} per second", number("patches", "per_second")));
        line(&format!("                      {:.0} MB/s", number("patches", "mb_per_second")));
        line(&format!(
            "without cache         {:.0} per second",
            number("patches", "uncached_per_second")
        ));
        line(&format!("ratio on disk         {:.2}", number("ingest", "ratio")));
        line(&format!("ingest                {:.2} s", number("ingest", "seconds")));
        line(&format!("sliding window        {:.2} s", number("sliding_window", "seconds")));
        line(&format!("max difference        {}", number("sliding_window", "max_difference")));
        line(&format!("store verified        {}", yes("verify", "ok")));
        line(&format!("export equal          {}", yes("export", "equal")));
        line(&format!(
            "picture               {}",
            self.results["picture"].as_str().expect("a path")
        ));
    }
}
