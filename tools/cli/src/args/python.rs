//! The commands that the Python package parses, described for completions and manual pages.
//!
//! Nothing is parsed by these: `python/tests/test_completions.py` compares each row with the
//! package's own parser.

use clap::builder::PossibleValuesParser;
use clap::{Arg, ArgAction, Command, ValueHint};

/// What an argument is called, its value, and what it does. Options begin with two dashes; one
/// without a value is a switch, and one whose value has bars takes one of them; what stands in
/// brackets may be left out.
type Row = (&'static str, &'static str, &'static str);

const INFER: &[Row] = &[
    ("volume", "VOLUME", "STORE/SUBJECT/VOLUME"),
    ("--model", "MODEL", "a TorchScript, torch.export (.pt2) or ONNX file"),
    ("--patch-size", "PATCH_SIZE", "voxels: 96, or Z,Y,X"),
    ("--out", "OUT", "STORE/SUBJECT/VOLUME of the result, which is new"),
    ("--overlap", "OVERLAP", "part of a patch (0.5), or voxels"),
    ("--batch-size", "BATCH_SIZE", "patches for each call of the model"),
    ("--argmax", "", "write labels: short for --finish \"argmax\""),
    ("--finish", "FINISH", "none, argmax, softmax+argmax or threshold"),
    ("--window", "WINDOW", "hann, average, crop, gaussian or gaussian-nnunet"),
    ("--padding", "PADDING", "beyond the volume: a number, edge or reflect"),
    ("--spacing", "SPACING", "the model's spacing, in the volume's unit"),
    ("--orientation", "ORIENTATION", "the model's orientation, as RAS"),
    ("--device", "DEVICE", "as cuda:0; default: a GPU, if there is one"),
    ("--memory", "MEMORY", "memory for unfinished voxels"),
    ("--threads", "THREADS", "threads that blend and encode; default: all cores"),
    ("--restart", "", "discard unfinished work"),
    ("--part", "I/N", "compute part I of N; finalize joins them"),
    ("--json", "", "print the result as JSON"),
    ("--quiet", "", "show no progress"),
];

const VIEW: &[Row] = &[
    ("path", "PATH", "STORE, STORE/SUBJECT or STORE/SUBJECT/VOLUME, or the URL of one"),
    (
        "--overlay",
        "PATH",
        "what is shown above, as predictions: a path of the same kinds; repeat it for several",
    ),
    ("--window", "WINDOW", "black and white: LOW,HIGH, or lung, bone, soft or brain for CT"),
    (
        "--convention",
        "radiological|neurological",
        "the patient's right is on the left, or on the right",
    ),
    ("--patches", "N", "show the first N patches of a sampler"),
    ("--sampler", "uniform|label|weighted|grid", "how the patches are chosen"),
    ("--patch-size", "PATCH_SIZE", "voxels: 96, or Z,Y,X; default: what was ingested for"),
    ("--border", "exclude|clamp|pad", "where patches may lie: inside, moved inside, or beyond"),
    ("--labels", "VOLUME", "label map of the label sampler; default: the first one"),
    ("--probabilities", "LABEL=PART,…", "how often each label comes"),
    ("--weights", "VOLUME", "volume of weights of the weighted sampler"),
    ("--overlap", "OVERLAP", "voxels that patches of the grid share"),
    ("--seed", "SEED", "seed of the random samplers"),
    ("--port", "PORT", "port of the server; default: any that is free"),
    ("--no-browser", "", "open no browser"),
];

const REPORT: &[Row] = &[
    ("store", "STORE", "the store, or its URL"),
    ("[out]", "OUT", "the page, a name that ends in .html"),
    ("--samples", "SAMPLES", "blocks of 16³ voxels that are read of an image"),
    ("--overwrite", "", "replace the file if it exists"),
    ("--json", "", "print the facts as JSON"),
];

const AFTER_INFER: &str = "\
The same command continues a run that was stopped; patches that are on the disk are not computed
again. Sizes are in voxels, (z, y, x), a number for a cube.

Exit codes: 0 success; 2 wrong arguments; 3 damaged or unsuitable data;
4 the environment (disk, permissions, interrupted).

Examples:
  voxquarry infer store.zarr/a/ct --model net.pt --patch-size 96 --out pred.zarr/a/seg --argmax
  voxquarry infer store.zarr/a/ct --model net.onnx --patch-size 64,128,128 --spacing 1.5 \\
      --out pred.zarr/a/seg --argmax
  voxquarry infer … --part 3/16      in 16 processes, on any machines; then, once:
  voxquarry finalize pred.zarr/a/seg";

const AFTER_VIEW: &str = "\
Prints one line, the address of the page, and serves it to this machine alone until Ctrl-C. The
page needs pip install voxquarry[view], and no network. What is shown is read as it is looked at.

Exit codes: 0 interrupted; 2 wrong arguments; 3 damaged or unsuitable data;
4 the environment (port, permissions, a missing package).

Examples:
  voxquarry view store.zarr                                  # a list of all subjects
  voxquarry view store.zarr/case01/ct --window lung
  voxquarry view store.zarr/case01 --overlay pred.zarr
  voxquarry view https://HOST/store.zarr/case01
  voxquarry view store.zarr/case01 --patches 20 --sampler label --patch-size 64";

const AFTER_REPORT: &str = "\
The page is one file that needs no network: extents, spacings, intensities and labels of all
subjects, with what is unusual marked. It reads documents, the label counts of label maps, and
blocks of each image; --samples 0 reads no voxel. --json prints the same facts, with or without a
page.

Exit codes: 0 success; 2 wrong arguments; 3 damaged or unsuitable data;
4 the environment (disk, permissions, interrupted).

Examples:
  voxquarry report store.zarr report.html
  voxquarry report https://HOST/store.zarr --json > facts.json";

/// Options without which the package refuses a command.
const REQUIRED: [(&str, &[&str]); 1] = [("infer", &["--model", "--patch-size", "--out"])];

/// Values that are paths, which shells complete.
const PATHS: [&str; 5] = ["MODEL", "OUT", "PATH", "STORE", "VOLUME"];

/// The whole command line, with the arguments that the Python package parses.
pub(crate) fn described(mut command: Command) -> Command {
    let commands = [
        ("infer", INFER, AFTER_INFER),
        ("view", VIEW, AFTER_VIEW),
        ("report", REPORT, AFTER_REPORT),
    ];
    for (name, rows, after) in commands {
        let required = REQUIRED.iter().find(|(of, _)| *of == name).map_or(&[][..], |(_, o)| o);
        command = command.mut_subcommand(name, |known| {
            let about = known.get_about().cloned().unwrap_or_default();
            Command::new(name)
                .about(about)
                .after_help(after)
                .disable_version_flag(true)
                .args(rows.iter().map(|row| argument(row, required)))
        });
    }
    command
}

fn argument(&(name, value, help): &Row, required: &[&str]) -> Arg {
    let place = name.trim_matches(['[', ']']);
    let arg = Arg::new(place).help(help);
    let Some(long) = name.strip_prefix("--") else {
        return arg.value_name(value).value_hint(ValueHint::AnyPath).required(place == name);
    };
    let arg = arg.long(long).required(required.contains(&name));
    if value.is_empty() {
        arg.action(ArgAction::SetTrue)
    } else if value.contains('|') {
        arg.value_parser(PossibleValuesParser::new(value.split('|')))
    } else if PATHS.contains(&value) {
        arg.value_name(value).value_hint(ValueHint::AnyPath)
    } else {
        arg.value_name(value)
    }
}
