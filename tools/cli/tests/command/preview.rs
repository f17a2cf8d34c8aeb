//! `voxquarry preview`: the pixels of its pictures.

use std::fs::File;
use std::io::BufReader;
use std::path::Path;

use crate::workspace::{Workspace, nifti, with_store};

struct Picture {
    width: usize,
    pixels: Vec<[u8; 3]>,
}

impl Picture {
    fn read(path: &Path) -> Self {
        let mut reader =
            png::Decoder::new(BufReader::new(File::open(path).unwrap())).read_info().unwrap();
        let mut bytes = vec![0; reader.output_buffer_size().unwrap()];
        let info = reader.next_frame(&mut bytes).unwrap();
        assert_eq!((info.color_type, info.bit_depth), (png::ColorType::Rgb, png::BitDepth::Eight));
        let pixels = bytes.as_chunks::<3>().0.to_vec();
        Self { width: info.width as usize, pixels }
    }

    fn height(&self) -> usize {
        self.pixels.len() / self.width
    }

    /// Left, top, width and height of the bounding box of the pixels for which `is` holds.
    fn hull(&self, is: impl Fn([u8; 3]) -> bool, columns: std::ops::Range<usize>) -> [usize; 4] {
        let hits: Vec<_> = (0..self.pixels.len())
            .filter(|i| columns.contains(&(i % self.width)) && is(self.pixels[*i]))
            .map(|i| (i % self.width, i / self.width))
            .collect();
        assert!(!hits.is_empty(), "no such pixel in columns {columns:?}");
        let least = |f: fn(&(usize, usize)) -> usize| hits.iter().map(f).min().unwrap();
        let most = |f: fn(&(usize, usize)) -> usize| hits.iter().map(f).max().unwrap();
        let (left, top) = (least(|p| p.0), least(|p| p.1));
        [left, top, most(|p| p.0) + 1 - left, most(|p| p.1) + 1 - top]
    }
}

/// A constant volume without patches gives three mid-grey panels.
#[test]
fn panels_have_the_true_proportions_of_the_volume() {
    let workspace = Workspace::new();
    workspace.write("flat.nii", &nifti(&[40, 30, 10], |_| 5));
    workspace.ok("ingest flat.nii --out s.zarr");
    workspace.ok("preview s.zarr/flat flat.png --patches 0");
    let mut picture = Picture::read(&workspace.path("flat.png"));
    // Without the last line, whose bar has all greys.
    picture.pixels.truncate(picture.pixels.len() - 60 * picture.width);
    let is_grey = |p: [u8; 3]| p[0] == p[1] && p[1] == p[2] && (128..160).contains(&p[0]);
    // Extents of 40, 60 and 30 mm: axial 40 × 60, coronal 40 × 30, sagittal 60 × 30.
    let inner = picture.width - 2 * 28 - 2 * 22;
    let widths = [inner * 40 / 140, inner * 40 / 140, inner * 60 / 140];
    let mut left = 28;
    for (width, (across, up)) in widths.into_iter().zip([(40, 60), (40, 30), (60, 30)]) {
        let [at, _, found_width, found_height] = picture.hull(is_grey, left..left + width + 4);
        assert!(at.abs_diff(left) <= 2, "panel at {at}, expected {left}");
        assert!(found_width.abs_diff(width) <= 3, "{found_width} wide, expected {width}");
        let height = found_width * up / across;
        assert!(found_height.abs_diff(height) <= 3, "{found_height} high, expected {height}");
        left += width + 22;
    }
    let colourful = |p: [u8; 3]| p.iter().max().unwrap() - p.iter().min().unwrap() > 40;
    assert!(!picture.pixels.iter().any(|&p| colourful(p)), "nothing is coloured");
}

/// Bright voxels at the patient's right, anterior, superior corner are right and up in every panel.
#[test]
fn slices_are_oriented_by_the_affine() {
    let workspace = Workspace::new();
    // x runs to the left, so small x is at the patient's right.
    let mut file = nifti(&[32, 32, 32], |i| {
        let (x, y, z) = (i % 32, i / 32 % 32, i / 1024);
        i16::from(x < 18 && y > 14 && z > 14) * 100
    });
    file[280..284].copy_from_slice(&(-1.0f32).to_le_bytes());
    workspace.write("corner.nii", &file);
    workspace.ok("ingest corner.nii --out s.zarr");
    for convention in ["neurological", "radiological"] {
        let words = format!("preview s.zarr/corner {convention}.png --patches 0 --convention");
        workspace.ok(&format!("{words} {convention}"));
        let picture = Picture::read(&workspace.path(&format!("{convention}.png")));
        let panels = picture.width - 2 * 28 - 2 * 22;
        let third = panels / 4;
        let sagittal = 72 + 2 * third;
        for (left, width) in [(28, third), (50 + third, third), (sagittal, 2 * third)] {
            // The legend has a white end, too.
            let count = |x: usize| {
                let rows = 80..picture.height() - 80;
                let column = rows.map(|y| picture.pixels[y * picture.width + x]);
                column.filter(|&p| p == [255; 3]).count()
            };
            let mut sides = [count(left + width / 6), count(left + width * 5 / 6)];
            // Sagittal views show no right.
            if convention == "radiological" && left != sagittal {
                sides.reverse();
            }
            let [dark, bright] = sides;
            assert!(bright > 10 * dark.max(1), "{sides:?} white pixels in panel {left}");
        }
    }
    workspace.ok("preview s.zarr/corner default.png --patches 0");
    let bytes = ["default.png", "radiological.png"].map(|n| workspace.path(n));
    let [default, radiological] = bytes.map(|path| std::fs::read(path).unwrap());
    assert!(default == radiological);
}

/// A volume of the values 0, 100, … along z: the slice that is shown tells where the slices meet.
#[test]
fn slices_meet_where_they_are_asked_to() {
    let workspace = Workspace::new();
    workspace.write("ramp.nii", &nifti(&[20, 20, 20], |i| (i / 400) as i16 * 10));
    // Labels are a block about the voxel x, y, z = 4, 7, 15.
    let block = |i: usize| {
        let (x, y, z) = (i % 20, i / 20 % 20, i / 400);
        i16::from((3..=5).contains(&x) && (6..=8).contains(&y) && (14..=16).contains(&z))
    };
    workspace.write("block.nii", &nifti(&[20, 20, 20], block));
    workspace.ok("ingest --subject a --image ct=ramp.nii --labels seg=block.nii --out s.zarr");
    let spacing = [1.0, 2.0, 3.0];
    let [x, y, z] = [4.0, 7.0, 15.0];
    let position = format!("{},{},{}", x * spacing[0], y * spacing[1], z * spacing[2]);
    let shown = |words: &str| {
        workspace.ok(&format!("preview s.zarr/a/ct a.png --overwrite --patches 0 {words}"));
        let picture = Picture::read(&workspace.path("a.png"));
        // In the corner of the axial panel, where no label is.
        let panel = picture.hull(|p| p[0] == p[1] && p[1] == p[2] && p[0] > 20, 28..120);
        picture.pixels[(panel[1] + 40) * picture.width + panel[0] + 8]
    };
    let window = "--window 0,255";
    assert_eq!(shown(window), [100; 3]);
    assert_eq!(shown(&format!("{window} --at {position}")), [150; 3]);
    let [level, ..] = shown(&format!("{window} --at labels"));
    assert!((140..=160).contains(&level), "{level}");
    workspace.fails("preview s.zarr/a b.png --at 0,0,-9", 2, &["0,0,-9", "outside", "(z, y, x)"]);
    workspace.fails("preview s.zarr/a b.png --window 3,1", 2, &["LOW,HIGH"]);
    workspace.fails("preview s.zarr/a b.png --at here", 2, &["middle, labels"]);
}

/// A window brightens what lies in it; the legend has its ends.
#[test]
fn windows_change_greys_and_nothing_else() {
    let workspace = Workspace::new();
    workspace.write("two.nii", &nifti(&[20, 20, 20], |i| if i % 20 < 10 { -100 } else { 120 }));
    workspace.ok("ingest two.nii --out s.zarr");
    let greys = |window: &str| {
        workspace.ok(&format!("preview s.zarr/two a.png --overwrite --patches 0 {window}"));
        let picture = Picture::read(&workspace.path("a.png"));
        let count = |level: u8| picture.pixels.iter().filter(|p| **p == [level; 3]).count();
        [38, 179, 255].map(|level| count(level) > 5000)
    };
    // -100 and 120 are 60 and 280 of 400 above the lower end.
    assert_eq!(greys("--window soft"), [true, true, false]);
    assert_eq!(greys("--window -160,240"), [true, true, false]);
    assert_eq!(greys("--window -200,120"), [false, false, true]);
}

/// Names and colours of labels stand below the slices.
#[test]
fn labels_have_a_legend() {
    let workspace = with_store();
    workspace.ok("preview s.zarr/case a.png --patches 0");
    workspace.ok("preview s.zarr/case/seg seg.png --patches 0");
    let (image, labels) =
        (Picture::read(&workspace.path("a.png")), Picture::read(&workspace.path("seg.png")));
    // Swatches are of pure colours, each in a square of 14 pixels.
    for (picture, rows) in [(&image, 2), (&labels, 1)] {
        for colour in [[242, 106, 61], [61, 242, 159]] {
            let found = picture.pixels.iter().filter(|p| **p == colour).count();
            assert!(found >= 14 * 14, "{colour:?}: {found} pixels with {rows} rows");
        }
    }
}

/// A contact sheet has a tile for each subject, and a place for each tile.
#[test]
fn a_store_has_a_contact_sheet() {
    let workspace = Workspace::new();
    for n in 0..8 {
        workspace.write(&format!("s{n}.nii"), &nifti(&[20, 20, 20], |_| 100));
    }
    workspace.ok("ingest s0.nii s1.nii s2.nii s3.nii s4.nii s5.nii s6.nii s7.nii --out s.zarr");
    let tiles = |words: &str| {
        workspace.ok(&format!("preview s.zarr a.png --overwrite --window 0,200 {words}"));
        let picture = Picture::read(&workspace.path("a.png"));
        let grey = picture.pixels.iter().filter(|p| **p == [128; 3]).count();
        (picture.width, picture.height(), (grey as f64 / (220.0 * 110.0)).round() as usize)
    };
    let (width, height, count) = tiles("");
    assert_eq!((width, count), (6 * 234 + 14, 8));
    let (narrow, low, count) = tiles("--subjects 3");
    assert_eq!((narrow, count), (3 * 234 + 14, 3));
    assert!(low < height);
    workspace.fails("preview s.zarr b.png --subjects 0", 2, &["--subjects"]);
}

#[test]
fn labels_and_patches_are_coloured_and_seeds_reproduce() {
    let workspace = with_store();
    let draw = |words: &str| {
        workspace.ok(&format!("preview {words} --overwrite"));
        std::fs::read(workspace.path(words.split_whitespace().nth(1).unwrap())).unwrap()
    };
    let plain = draw("s.zarr/case a.png --patches 0");
    let patches = draw("s.zarr/case b.png --patch-size 8");
    assert!(plain != patches);
    assert!(draw("s.zarr/case/ct c.png --patch-size 8 --seed 0") == patches);
    assert!(draw("s.zarr/case c.png --patch-size 8 --seed 1") != patches);
    assert!(draw("s.zarr/case d.png --patch-size 8 --sampler grid") != patches);
    let coloured = |name: &str| {
        let pixels = Picture::read(&workspace.path(name)).pixels;
        pixels.iter().filter(|p| p.iter().max().unwrap() - p.iter().min().unwrap() > 40).count()
    };
    // Two thirds of the voxels have a label.
    let picture = Picture::read(&workspace.path("a.png"));
    assert!(coloured("a.png") > picture.pixels.len() / 5, "{} coloured", coloured("a.png"));
    draw("s.zarr/case/seg seg.png --patches 0");
    assert!(coloured("seg.png") > picture.pixels.len() / 5, "{} coloured", coloured("seg.png"));
}

/// Patches centred on one label cover its slab, and nothing at the other end.
#[test]
fn coverage_is_high_where_the_sampler_draws() {
    let workspace = with_store();
    let rows = |words: &str| {
        workspace.ok(&format!(
            "preview s.zarr/case coverage.png --overwrite --patch-size 4 --patches 1 \
                 {words}"
        ));
        let picture = Picture::read(&workspace.path("coverage.png"));
        let is_high = |p: [u8; 3]| p[0] > 250 && p[1] > 230 && (150..230).contains(&p[2]);
        // The axial view, with y upwards, is the first panel; its coverage is in the lower half.
        let quarter = picture.width / 4;
        let [_, top, _, height] = picture.hull(is_high, 28..28 + quarter);
        let all = picture.height();
        assert!(top > all / 2, "coverage is below the slices");
        (top + height / 2) as f64 / all as f64
    };
    let label = "--sampler label --labels seg --probabilities";
    let (middle, upper) = (rows(&format!("{label} 1=1")), rows(&format!("{label} 2=1")));
    assert!(upper + 0.05 < middle, "label 2 lies above label 1: {upper} {middle}");
    let plain = workspace.ok("preview s.zarr/case plain.png --patch-size 4 --patches 0");
    assert!(plain.out.contains("plain.png"));
    let heights =
        ["coverage.png", "plain.png"].map(|name| Picture::read(&workspace.path(name)).height());
    assert!(heights[0] > heights[1] + 200, "without patches there is no coverage");
}

#[test]
fn channels_and_tiny_volumes_can_be_drawn() {
    let workspace = Workspace::new();
    workspace.write("time.nii", &nifti(&[9, 8, 7, 5], |i| i as i16));
    workspace.write("one.nii", &nifti(&[1, 1, 1], |_| 3));
    workspace.write("line.nii", &nifti(&[300, 1, 1], |i| i as i16));
    workspace.ok("ingest time.nii one.nii line.nii --out s.zarr");
    for subject in ["time", "one", "line"] {
        workspace.ok(&format!("preview s.zarr/{subject} {subject}.png"));
        let picture = Picture::read(&workspace.path(&format!("{subject}.png")));
        assert!((300..1900).contains(&picture.width) && picture.height() < 1550);
    }
}

#[test]
fn invalid_arguments_are_refused() {
    let workspace = with_store();
    workspace.fails("preview s.zarr/case ct.nii.gz", 2, &["ct.nii.gz", ".png"]);
    workspace.fails("preview s.zarr/case a.png --patch-size 64", 2, &["64", "larger"]);
    workspace.fails("preview s.zarr/case ct.nii.gz/a.png", 4, &["a.png"]);
    assert_eq!(workspace.run("preview s.zarr/case a.png --sampler weighted").code, Some(2));
    assert_eq!(workspace.run("preview s.zarr/case a.png --sampler random").code, Some(2));
    assert_eq!(workspace.run("preview s.zarr/case a.png --patches 100000").code, Some(2));
    assert!(!workspace.path("a.png").exists());
}

#[test]
fn a_picture_replaces_a_file_only_on_request() {
    let workspace = with_store();
    workspace.write("mine.png", b"mine");
    workspace.fails("preview s.zarr/case mine.png", 2, &["mine.png", "help: ", "--overwrite"]);
    assert_eq!(std::fs::read(workspace.path("mine.png")).unwrap(), b"mine");
    workspace.ok("preview s.zarr/case mine.png --overwrite");
    assert!(Picture::read(&workspace.path("mine.png")).width > 100);
}
