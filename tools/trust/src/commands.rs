//! The commands that are disturbed, and those that finish what they have begun.

/// What a command does, which decides what may be different after a fault.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Effect {
    /// It publishes: success means that everything is there.
    Publishes,
    /// It reads, and writes sums on the way if it can.
    Caches,
    /// It writes nothing.
    Reads,
}

/// A command, what ran before it, and what finishes its work.
///
/// `@` stands for the folder, `+` for this program. Every command finds `old/` and `new/` with
/// images, and the store `s.zarr` with subject `case` made of the old ones.
pub(crate) struct BenchCommand {
    pub(crate) name: &'static str,
    pub(crate) effect: Effect,
    pub(crate) before: &'static [&'static str],
    pub(crate) words: &'static str,
    pub(crate) after: &'static [&'static str],
}

/// An ingest of three subjects in two parts.
pub(crate) const PLAN: &str = "ingest @/new/ct.nii.gz @/new/w.nii @/new/seg.nii --quiet \
    --patch-size 8 --out @/p.zarr --plan @/plan.json";
pub(crate) const PART_0: &str = "ingest --plan @/plan.json --part 0/2 --threads 2 --quiet";
pub(crate) const PART_1: &str = "ingest --plan @/plan.json --part 1/2 --threads 2 --quiet";
pub(crate) const FINALIZE: &str = "ingest --plan @/plan.json --finalize --quiet";
/// A blending in two parts.
pub(crate) const BLEND_0: &str = "+ --blend @/p.zarr/new/p --part 0/2";
pub(crate) const BLEND_0_BEGUN: &str = "+ --blend @/p.zarr/new/p --part 0/2 --stop 30";
pub(crate) const BLEND_1: &str = "+ --blend @/p.zarr/new/p --part 1/2";
pub(crate) const JOIN: &str = "finalize @/p.zarr/new/p";
/// A blending that may be continued.
pub(crate) const KEPT: &str = "+ --blend @/p.zarr/new/p --keep";
pub(crate) const KEPT_BEGUN: &str = "+ --blend @/p.zarr/new/p --keep --stop 60";

const fn command(
    name: &'static str,
    effect: Effect,
    before: &'static [&'static str],
    words: &'static str,
    after: &'static [&'static str],
) -> BenchCommand {
    BenchCommand { name, effect, before, words, after }
}

pub(crate) const COMMANDS: &[BenchCommand] = &[
    command(
        "ingest",
        Effect::Publishes,
        &[],
        "ingest --subject new --image ct=@/new/ct.nii.gz --labels seg=@/new/seg.nii \
        --weights w=@/new/w.nii --patch-size 8 --threads 2 --quiet --out @/s.zarr",
        &[],
    ),
    command(
        "ingest of two",
        Effect::Publishes,
        &[],
        "ingest @/new/ct.nii.gz @/new/w.nii --quiet --patch-size 8 --out @/p.zarr",
        &[],
    ),
    command(
        "ingest changed",
        Effect::Publishes,
        &[],
        "ingest --subject new --image ct=@/new/ct.nii.gz --labels seg=@/new/seg.nii \
        --spacing 1,1,1 --crop-foreground --levels 1 --patch-size 8 --threads 2 --quiet \
        --out @/s.zarr",
        &[],
    ),
    command(
        "overwrite",
        Effect::Publishes,
        &[],
        "ingest --subject case --image ct=@/new/ct.nii.gz --labels seg=@/new/seg.nii \
        --image w=@/new/w.nii --patch-size 8 --codec compact --quiet --overwrite --out @/s.zarr",
        &[],
    ),
    command("plan", Effect::Publishes, &[], PLAN, &[PART_0, PART_1, FINALIZE]),
    command("part", Effect::Publishes, &[PLAN], PART_0, &[PART_1, FINALIZE]),
    command("last part", Effect::Publishes, &[PLAN, PART_0], PART_1, &[FINALIZE]),
    command("finalize", Effect::Publishes, &[PLAN, PART_0, PART_1], FINALIZE, &[]),
    command(
        "finalize into",
        Effect::Publishes,
        &[
            "ingest @/new/ct.nii.gz @/new/w.nii --quiet --patch-size 8 --out @/s.zarr \
            --plan @/plan.json",
            "ingest --out @/s.zarr --part 0/1 --quiet",
        ],
        FINALIZE,
        &[],
    ),
    command("export", Effect::Publishes, &[], "export @/s.zarr/case/ct @/a.nii", &[]),
    command(
        "export over",
        Effect::Publishes,
        &["export @/s.zarr/case/seg @/a.nii.gz"],
        "export @/s.zarr/case/w @/a.nii.gz --overwrite",
        &[],
    ),
    command("export pair", Effect::Publishes, &[], "export @/s.zarr/case/ct @/a.hdr", &[]),
    command(
        "export pair over",
        Effect::Publishes,
        &["export @/s.zarr/case/seg @/a.hdr"],
        "export @/s.zarr/case/w @/a.hdr --overwrite",
        &[],
    ),
    command(
        "preview",
        Effect::Publishes,
        &["export @/s.zarr/case/seg @/a.nii"],
        "preview @/s.zarr/case/seg @/a.png --patches 0 --patch-size 8",
        &[],
    ),
    command(
        "sums",
        Effect::Caches,
        &[],
        "sample @/s.zarr --sampler weighted --weights w --patch-size 4 --count 3",
        &[],
    ),
    command("blend", Effect::Publishes, &[], "+ --blend @/s.zarr/case/p", &[]),
    command("blend new", Effect::Publishes, &[], "+ --blend @/p.zarr/new/p", &[]),
    command("blend on", Effect::Publishes, &[KEPT_BEGUN], KEPT, &[]),
    command("blend kept", Effect::Publishes, &[], KEPT, &[]),
    command("blend part", Effect::Publishes, &[], BLEND_0, &[BLEND_1, JOIN]),
    command("blend part on", Effect::Publishes, &[BLEND_0_BEGUN], BLEND_0, &[BLEND_1, JOIN]),
    command("blend last part", Effect::Publishes, &[BLEND_0], BLEND_1, &[JOIN]),
    command("join", Effect::Publishes, &[BLEND_0, BLEND_1], JOIN, &[]),
    command(
        "join into",
        Effect::Publishes,
        &["+ --blend @/s.zarr/case/p --part 0/2", "+ --blend @/s.zarr/case/p --part 1/2"],
        "finalize @/s.zarr/case/p",
        &[],
    ),
    command("verify", Effect::Reads, &[], "verify @/s.zarr --json", &[]),
    command("info", Effect::Reads, &[], "info @/s.zarr/case --json", &[]),
    command(
        "sample",
        Effect::Reads,
        &[],
        "sample @/s.zarr --sampler label --labels seg --patch-size 4",
        &[],
    ),
];
