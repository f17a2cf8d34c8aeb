//! Every resampled read equals a naive computation in double precision: orders, borders, dtypes,
//! displacements, slopes, threads.

#[allow(unreachable_pub)]
mod common;

use common::{Plain, write_scaled};
use voxquarry::format::attributes::Kind;
use voxquarry::format::layout::Codec;
use voxquarry::{
    Dataset, Displacement, Dtype, Error, OpenOptions, Order, Orientation, Padding, Size3, Volume,
    Voxel, Warp, with_voxel,
};

/// Numbers that look random.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963);
        self.0 >> 33
    }

    fn below(&mut self, n: usize) -> usize {
        self.next() as usize % n
    }

    fn between(&mut self, low: f64, high: f64) -> f64 {
        low + (high - low) * self.next() as f64 / (1u64 << 31) as f64
    }
}

fn product(a: [[f64; 3]; 3], b: [[f64; 3]; 3]) -> [[f64; 3]; 3] {
    [0, 1, 2].map(|i| [0, 1, 2].map(|j| (0..3).map(|k| a[i][k] * b[k][j]).sum()))
}

/// A turn about each axis by up to `angle`, a factor for each axis, and a centre somewhere in the
/// volume or a little outside.
fn turned(random: &mut Random, size: Size3, volume: Size3, angle: f64) -> [[f64; 4]; 3] {
    let angles = [0, 1, 2].map(|_| random.between(-angle, angle));
    let ([c0, c1, c2], [s0, s1, s2]) = (angles.map(f64::cos), angles.map(f64::sin));
    let about_z = [[1., 0., 0.], [0., c0, -s0], [0., s0, c0]];
    let about_y = [[c1, 0., s1], [0., 1., 0.], [-s1, 0., c1]];
    let about_x = [[c2, -s2, 0.], [s2, c2, 0.], [0., 0., 1.]];
    let scale = [0, 1, 2].map(|_| random.between(0.5, 1.6));
    let turn = product(product(about_z, about_y), about_x);
    [0, 1, 2].map(|a| {
        let row = [0, 1, 2].map(|b| turn[a][b] * scale[b]);
        let centre = random.between(-4.0, volume[a] as f64 + 3.0);
        let half: f64 = (0..3).map(|b| row[b] * (size[b] as f64 - 1.0) / 2.0).sum();
        [row[0], row[1], row[2], centre - half]
    })
}

/// What is resampled, and how.
struct Case<'a> {
    plain: &'a Plain,
    slope_intercept: (f64, f64),
    order: Order,
    padding: Padding,
    size: Size3,
    matrix: [[f64; 4]; 3],
    displacement: Option<(Size3, Vec<[f64; 3]>)>,
}

impl Case<'_> {
    fn warp(&self) -> Warp {
        let warp = Warp::new(self.matrix).unwrap();
        match &self.displacement {
            Some((knots, values)) => {
                warp.displaced(Displacement::new(*knots, values.clone()).unwrap())
            }
            None => warp,
        }
    }

    /// The index in the volume of a voxel of the patch.
    fn index(&self, at: Size3) -> [f64; 3] {
        let position = [0, 1, 2].map(|a| at[a] as f64);
        let mut index = self
            .matrix
            .map(|m| m[0] * position[0] + m[1] * position[1] + m[2] * position[2] + m[3]);
        let Some((knots, values)) = &self.displacement else { return index };
        let place = [0, 1, 2].map(|a| position[a] * (knots[a] - 1) as f64 / self.size[a] as f64);
        for corner in 0..8 {
            let (mut weight, mut flat) = (1.0, 0);
            for a in 0..3 {
                let low = place[a].floor();
                let k = low as usize + (corner >> a & 1);
                weight *= if corner >> a & 1 == 1 { place[a] - low } else { 1.0 + low - place[a] };
                flat = flat * knots[a] + k.min(knots[a] - 1);
            }
            for a in 0..3 {
                index[a] += weight * values[flat][a];
            }
        }
        index
    }

    /// The stored value at an index, or what stands for it.
    fn tap(&self, channel: usize, index: [i64; 3]) -> f64 {
        let mut at = [0; 3];
        for a in 0..3 {
            let (mut i, n) = (index[a], self.plain.size[a] as i64);
            while !(0..n).contains(&i) {
                i = match self.padding {
                    Padding::Constant(value) => {
                        let (slope, intercept) = self.slope_intercept;
                        return (value - intercept) / slope;
                    }
                    Padding::Edge => i.clamp(0, n - 1),
                    _ if n == 1 => 0,
                    _ if i < 0 => -i,
                    _ => 2 * (n - 1) - i,
                };
            }
            at[a] = i as usize;
        }
        let bytes = self.plain.voxel(channel, at);
        with_voxel!(self.plain.dtype, T => bytemuck::pod_read_unaligned::<T>(bytes).to_f64())
    }

    /// The real value of a voxel of the patch, and whether it is a tie between two voxels.
    fn value(&self, channel: usize, at: Size3) -> (f64, bool) {
        let index = self.index(at);
        let taps: Vec<[(i64, f64); 4]> = index.iter().map(|&c| weights(self.order, c)).collect();
        let mut sum = 0.0;
        for (z, wz) in taps[0] {
            for (y, wy) in taps[1] {
                for (x, wx) in taps[2] {
                    let weight = wz * wy * wx;
                    if weight != 0.0 {
                        sum += weight * self.tap(channel, [z, y, x]);
                    }
                }
            }
        }
        let is_tie = index.iter().any(|c| ((c - c.floor()) - 0.5).abs() < 1e-5);
        (sum * self.slope_intercept.0 + self.slope_intercept.1, is_tie)
    }
}

/// The taps around `c` and their weights.
fn weights(order: Order, c: f64) -> [(i64, f64); 4] {
    let floor = c.floor() as i64;
    let keys = |d: f64| {
        let d = d.abs();
        match d {
            _ if d < 1.0 => (1.5 * d - 2.5) * d * d + 1.0,
            _ if d < 2.0 => ((-0.5 * d + 2.5) * d - 4.0) * d + 2.0,
            _ => 0.0,
        }
    };
    let weight = |d: f64| match order {
        Order::Nearest => f64::from((-0.5..0.5).contains(&d)),
        Order::Linear => (1.0 - d.abs()).max(0.0),
        Order::Cubic => keys(d),
    };
    // The distance from the index to the tap; half a voxel above belongs to the tap above.
    [-1, 0, 1, 2].map(|i| (floor + i, weight(c - (floor + i) as f64)))
}

fn open(folder: &std::path::Path, threads: usize) -> Volume {
    let options = OpenOptions::default().threads(threads);
    Dataset::open(folder, &options).unwrap().subject("s").unwrap().volume("v").unwrap()
}

fn read(volume: &Volume, case: &Case<'_>, dtype: Dtype) -> Vec<f64> {
    let voxels = case.plain.channels.unwrap_or(1) * case.size.iter().product::<usize>();
    with_voxel!(dtype, T => {
        let mut out = vec![T::default(); voxels];
        let warps = [case.warp()];
        volume.read_affine_into(&warps, case.size, case.order, case.padding, &mut out).unwrap();
        out.iter().map(|v| v.to_f64()).collect()
    })
}

/// The greatest difference between stored values.
fn value_range(plain: &Plain) -> f64 {
    let values = plain.bytes.chunks_exact(plain.dtype.size()).map(
        |bytes| with_voxel!(plain.dtype, T => bytemuck::pod_read_unaligned::<T>(bytes).to_f64()),
    );
    let (low, high) =
        values.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), v| (low.min(v), high.max(v)));
    high - low
}

fn compare(volume: &Volume, case: &Case<'_>, dtype: Dtype, tolerance: f64) {
    let found = read(volume, case, dtype);
    let range = value_range(case.plain) * case.slope_intercept.0.abs();
    let [nz, ny, nx] = case.size;
    for (i, &found) in found.iter().enumerate() {
        let at = [i / (nx * ny) % nz, i / nx % ny, i % nx];
        let (expected, is_tie) = case.value(i / (nx * ny * nz), at);
        let fits = match case.order {
            Order::Nearest => is_tie || (found - expected).abs() <= 1e-6 * range,
            _ => (found - expected).abs() <= tolerance * range,
        };
        let (order, padding, matrix) = (case.order, case.padding, case.matrix);
        assert!(
            fits,
            "{dtype} of {}: {order:?} {padding:?} at {at:?}: {found}, expected {expected}, range \
             {range}, matrix {matrix:?}, displacement {:?}",
            case.plain.dtype, case.displacement
        );
    }
}

/// A thousand transforms over all dtypes, orders, borders and displacements.
#[test]
fn a_thousand_random_transforms_equal_double_precision() {
    let folder = tempfile::tempdir().unwrap();
    let mut random = Random(23);
    for (n, dtype) in Dtype::ALL.into_iter().enumerate() {
        let codec = [Codec::Fast, Codec::Compact, Codec::None][n % 3];
        let channels = [None, Some(2)][n % 2];
        let plain = Plain::new(channels, [37, 45, 70], dtype, n as u64);
        let slope_intercept = [(1.0, 0.0), (0.7, -12.5)][n / 2 % 2];
        write_scaled(folder.path(), &plain, Kind::Image, codec, [16; 3], slope_intercept);
        let volume = open(folder.path(), 1);
        for i in 0..92 {
            let order = [Order::Nearest, Order::Linear, Order::Cubic][i % 3];
            let padding = [Padding::Constant(3.0), Padding::Edge, Padding::Reflect][i / 3 % 3];
            let size = [1 + random.below(9), 1 + random.below(9), 1 + random.below(40)];
            let knots = [0, 1, 2].map(|a| 1 + random.below(size[a] + 1).min(4));
            let values = (0..knots.iter().product::<usize>())
                .map(|_| [0, 1, 2].map(|_| random.between(-5.0, 5.0)))
                .collect();
            let case = Case {
                plain: &plain,
                slope_intercept,
                order,
                padding,
                size,
                matrix: turned(&mut random, size, plain.size, 0.6),
                displacement: (i / 9 % 2 == 1).then_some((knots, values)),
            };
            // Half precision has 11 bits.
            let (patch, tolerance) = match (i % 4, order) {
                (0, _) => (Dtype::Float64, 1e-5),
                (1, _) if dtype.size() <= 2 && slope_intercept.0 == 1.0 => (Dtype::Float16, 1e-3),
                (_, Order::Cubic) => (Dtype::Float32, 1e-4),
                _ => (Dtype::Float32, 1e-5),
            };
            if patch == Dtype::Float16 && order == Order::Nearest {
                continue;
            }
            compare(&volume, &case, patch, tolerance);
        }
    }
}

/// Scaling far down, single planes and turns by right angles, whose indices are whole.
#[test]
fn extreme_and_whole_transforms_equal_double_precision() {
    let folder = tempfile::tempdir().unwrap();
    let plain = Plain::new(None, [37, 45, 70], Dtype::Int16, 5);
    write_scaled(folder.path(), &plain, Kind::Image, Codec::Fast, [16; 3], (1.0, 0.0));
    let volume = open(folder.path(), 2);
    let matrices = [
        [[1., 0., 0., 0.], [0., 1., 0., 0.], [0., 0., 1., 0.]],
        [[-1., 0., 0., 36.], [0., 0., 1., -3.], [0., 1., 0., 60.]],
        [[0.5, 0., 0., 0.25], [0., 0.5, 0., 0.], [0., 0., 0.5, 30.]],
        [[7., 0., 0.3, -9.], [0., 9., 0., 0.], [0., 0., 17.5, -33.]],
        [[1., 0., 0., 36.], [0., 1., 0., 44.], [0., 0., 1., 69.]],
        [[1., 0., 0., -500.], [0., 1., 0., 44.], [0., 0., 1., 3.]],
        [[0.1, 0., 0., 2.], [0., 0.1, 0., 3.], [0., 0., 0.1, 5.]],
    ];
    for matrix in matrices {
        for order in [Order::Nearest, Order::Linear, Order::Cubic] {
            for padding in [Padding::Constant(-7.0), Padding::Edge, Padding::Reflect] {
                for size in [[7, 9, 41], [1, 1, 1], [3, 1, 17], [37, 45, 70]] {
                    let displacement = None;
                    let slope_intercept = (1.0, 0.0);
                    let plain = &plain;
                    let case =
                        Case { plain, slope_intercept, order, padding, size, matrix, displacement };
                    compare(&volume, &case, Dtype::Float32, 1e-5);
                }
            }
        }
    }
}

/// The same bits on 1, 2 and 8 threads, alone and in a batch.
#[test]
fn threads_and_batches_give_the_same_bits() {
    let folder = tempfile::tempdir().unwrap();
    let plain = Plain::new(Some(2), [64, 70, 80], Dtype::UInt8, 7);
    write_scaled(folder.path(), &plain, Kind::Image, Codec::Compact, [32; 3], (1.0, 0.0));
    let (size, mut random) = ([48, 40, 50], Random(1));
    let values: Vec<_> = (0..4 * 4 * 5).map(|i| [f64::from(i % 7), 0.5, -2.0]).collect();
    let warps: Vec<Warp> = (0..9)
        .map(|i| {
            let warp = Warp::new(turned(&mut random, size, plain.size, 0.5)).unwrap();
            let bent = || Displacement::new([4, 4, 5], values.clone()).unwrap();
            if i % 2 == 0 { warp } else { warp.displaced(bent()) }
        })
        .collect();
    for order in [Order::Nearest, Order::Linear, Order::Cubic] {
        let read = |threads: usize, warps: &[Warp]| {
            let mut out = vec![0f32; warps.len() * 2 * 48 * 40 * 50];
            let volume = open(folder.path(), threads);
            volume.read_affine_into(warps, size, order, Padding::Reflect, &mut out).unwrap();
            out
        };
        let expected = read(1, &warps);
        assert!(expected.iter().any(|&v| v != 0.0));
        for threads in [2, 8] {
            assert!(read(threads, &warps) == expected, "{order:?} on {threads} threads");
        }
        let single: Vec<f32> =
            warps.iter().flat_map(|warp| read(2, std::slice::from_ref(warp))).collect();
        assert!(single == expected, "{order:?} one by one");
    }
}

/// Integers receive stored values, rounded; labels are copied.
#[test]
fn the_volumes_own_type_receives_stored_values() {
    let folder = tempfile::tempdir().unwrap();
    let plain = Plain::new(None, [30, 31, 40], Dtype::UInt8, 3);
    write_scaled(folder.path(), &plain, Kind::Image, Codec::Fast, [16; 3], (2.0, 100.0));
    let volume = open(folder.path(), 1);
    let case = Case {
        plain: &plain,
        slope_intercept: (1.0, 0.0),
        order: Order::Linear,
        padding: Padding::Constant(9.0),
        size: [12, 13, 30],
        matrix: [[0.9, 0.1, 0., 0.], [0., 1., 0.2, 0.], [0., 0., 1.1, 0.]],
        displacement: None,
    };
    let found = read(&volume, &case, Dtype::UInt8);
    for (i, &found) in found.iter().enumerate() {
        let at = [i / (13 * 30), i / 30 % 13, i % 30];
        assert!((found - case.value(0, at).0).abs() <= 0.5001, "{at:?}");
    }
    assert_eq!(volume.affine_dtype(None).unwrap(), Dtype::Float32);
    assert!(matches!(volume.affine_dtype(Some(Dtype::Int16)), Err(Error::InvalidArgument { .. })));
}

/// A tap of weight 0 has no influence: a NaN beside a voxel does not reach a read of that voxel.
#[test]
fn values_that_are_not_finite_reach_only_voxels_that_weigh_them() {
    let folder = tempfile::tempdir().unwrap();
    let mut plain = Plain::new(None, [20, 20, 40], Dtype::Float32, 3);
    let (at, nan) = (|z: usize, y: usize, x: usize| ((z * 20 + y) * 40 + x) * 4, f32::NAN);
    plain.bytes[at(10, 10, 10)..][..4].copy_from_slice(&nan.to_le_bytes());
    write_scaled(folder.path(), &plain, Kind::Image, Codec::Fast, [16; 3], (1.0, 0.0));
    let volume = open(folder.path(), 1);
    for order in [Order::Nearest, Order::Linear, Order::Cubic] {
        let mut out = vec![0f32; 20 * 20 * 40];
        let whole = Warp::new([[1., 0., 0., 0.], [0., 1., 0., 0.], [0., 0., 1., 0.]]).unwrap();
        let outside = Padding::Constant(f64::NAN);
        volume.read_affine_into(&[whole], [20, 20, 40], order, outside, &mut out).unwrap();
        assert!(bytemuck::cast_slice::<f32, u8>(&out) == plain.bytes, "{order:?}");
        // Between two voxels both count.
        let half = Warp::new([[1., 0., 0., 0.], [0., 1., 0., 0.], [0., 0., 1., 0.25]]).unwrap();
        volume.read_affine_into(&[half], [20, 20, 40], order, Padding::Edge, &mut out).unwrap();
        let count = out.iter().filter(|v| v.is_nan()).count();
        assert_eq!(count, [1, 2, 4][[0, 1, 3].iter().position(|&n| n == order.number()).unwrap()]);
    }
}

/// What is refused says why, and leaves the buffer as it was.
#[test]
fn bad_arguments_are_refused_and_out_is_untouched() {
    let folder = tempfile::tempdir().unwrap();
    let plain = Plain::new(None, [20, 20, 20], Dtype::UInt8, 1);
    write_scaled(folder.path(), &plain, Kind::Labels, Codec::Fast, [16; 3], (1.0, 0.0));
    let volume = open(folder.path(), 1);
    let whole = [[1., 0., 0., 0.], [0., 1., 0., 0.], [0., 0., 1., 0.]];
    let warp = |change: &dyn Fn(&mut [[f64; 4]; 3])| {
        let mut matrix = whole;
        change(&mut matrix);
        Warp::new(matrix)
    };
    assert!(warp(&|m| m[1][1] = f64::NAN).unwrap_err().to_string().contains("finite"));
    assert!(warp(&|m| m[0][3] = f64::INFINITY).unwrap_err().to_string().contains("finite"));
    assert!(warp(&|m| m[1][1] = 0.0).unwrap_err().to_string().contains("singular"));
    assert!(warp(&|m| m[1] = m[0]).unwrap_err().to_string().contains("singular"));
    assert!(warp(&|m| m[1][1] = 1e300).unwrap_err().to_string().contains("singular"));
    assert!(Displacement::new([2; 3], vec![[0.0; 3]; 7]).is_err());
    assert!(Displacement::new([0; 3], vec![]).is_err());
    assert!(Displacement::new([1; 3], vec![[f64::NAN, 0.0, 0.0]]).is_err());
    assert!(Displacement::new([1; 3], vec![[1e6, 0.0, 0.0]]).is_err());
    assert!(Displacement::new([usize::MAX, 2, 2], vec![]).is_err());
    assert_eq!(Order::from_number(2), None);

    let mut out = vec![7u8; 1000];
    let warps = [Warp::new(whole).unwrap()];
    let mut refused = |warps: &[Warp], size, order, padding, says: &str| {
        let error = volume.read_affine_into(warps, size, order, padding, &mut out).unwrap_err();
        assert!(error.to_string().contains(says), "{error}");
        assert!(out.iter().all(|&v| v == 7), "{error}");
    };
    let zero = Padding::Constant(0.0);
    refused(&warps, [10; 3], Order::Linear, zero, "0 (nearest) for labels");
    refused(&warps, [10, 0, 10], Order::Nearest, zero, "at least one voxel");
    refused(&warps, [10, 10, 11], Order::Nearest, zero, "1000");
    refused(&warps, [10; 3], Order::Nearest, Padding::Constant(0.5), "a value of uint8");
    refused(&warps, [usize::MAX; 3], Order::Nearest, zero, "exceeds the address space");
    let far = [warp(&|m| m[0][3] = 1e9).unwrap()];
    refused(&far, [10; 3], Order::Nearest, zero, "indices of at most");
    let outside = [warp(&|m| m[0][3] = 11.0).unwrap()];
    refused(&outside, [10; 3], Order::Nearest, Padding::None, "choose a padding");
    let many = Displacement::new([12, 1, 1], vec![[0.0; 3]; 12]).unwrap();
    refused(&[warps[0].clone().displaced(many)], [10; 3], Order::Nearest, zero, "at most 11");
    let mut floats = vec![7f32; 1000];
    let error = volume.read_affine_into(&warps, [10; 3], Order::Nearest, zero, &mut floats);
    assert!(error.unwrap_err().to_string().contains("labels keep"));
    assert!(floats.iter().all(|&v| v == 7.0));
    volume.read_affine_into(&warps, [10; 3], Order::Nearest, Padding::None, &mut out).unwrap();
    assert!(out.iter().any(|&v| v != 7));
}

/// A view at another spacing and orientation shows voxels at the positions that its affine says.
#[test]
fn views_show_voxels_where_their_affine_says() {
    let folder = tempfile::tempdir().unwrap();
    let plain = Plain::new(None, [20, 30, 40], Dtype::Int16, 2);
    write_scaled(folder.path(), &plain, Kind::Image, Codec::Fast, [16; 3], (1.0, 0.0));
    let volume = open(folder.path(), 1);
    // Voxels of 2 × 1 × 0.5 mm along z, y, x; all axes ascend.
    let same = volume.at(None, None).unwrap();
    assert_eq!((same.size(), same.affine()), ([20, 30, 40], volume.affine()));
    let view = volume.at(Some([1.0, 2.0, 0.4]), Some("PSL".parse().unwrap())).unwrap();
    // x here is y there, mirrored; y here is z; z here is x, mirrored.
    assert_eq!(view.size(), [20, 20, 75]);
    assert_eq!(Orientation::of(view.affine()).to_string(), "PSL");
    assert_eq!(view.affine().spacing_mm(), [1.0, 2.0, 0.4]);
    let world = |affine: &voxquarry::Affine, at: [f64; 3]| affine.apply(at);
    for at in [[0.0; 3], [3.0, 4.0, 5.0], [19.0, 19.0, 74.0]] {
        let there = view.warp([0; 3]).unwrap().apply(at);
        let (here, there) = (world(view.affine(), at), world(volume.affine(), there));
        assert!(here.iter().zip(there).all(|(a, b)| (a - b).abs() < 1e-9), "{here:?} {there:?}");
    }
    // The outer faces coincide: the first voxels of a view of twice the spacing are means.
    let coarse = volume.at(Some([4.0, 2.0, 1.0]), None).unwrap();
    let mut out = vec![0f32; 10 * 15 * 20];
    coarse
        .read_batch_into(&[[0; 3]], [10, 15, 20], Order::Linear, Padding::None, &mut out)
        .unwrap();
    let stored = |z: usize, y: usize, x: usize| {
        f32::from(bytemuck::pod_read_unaligned::<i16>(plain.voxel(0, [z, y, x])))
    };
    for (i, &found) in out.iter().enumerate() {
        let [z, y, x] = [i / (15 * 20) * 2, i / 20 % 15 * 2, i % 20 * 2];
        let sum: f32 = (0..8).map(|n| stored(z + (n >> 2), y + (n >> 1 & 1), x + (n & 1))).sum();
        assert!((found - sum / 8.0).abs() < 1e-3, "{i}: {found} {}", sum / 8.0);
    }
    // Mirrored axes copy voxels.
    let mirrored = volume.at(None, Some("LPI".parse().unwrap())).unwrap();
    let mut out = vec![0f32; 20 * 30 * 40];
    mirrored
        .read_batch_into(&[[0; 3]], [20, 30, 40], Order::Linear, Padding::None, &mut out)
        .unwrap();
    assert!(out.iter().rev().enumerate().all(|(i, &v)| v == stored(i / 1200, i / 40 % 30, i % 40)));
    let mut out = vec![0f32; 8];
    let leaves =
        mirrored.read_batch_into(&[[19, 0, 0]], [2; 3], Order::Linear, Padding::None, &mut out);
    assert!(matches!(leaves, Err(Error::OutOfBounds { .. })));
    for spacing in [0.0, -1.0, f64::NAN, f64::INFINITY, 1e-9, 1e300] {
        assert!(volume.at(Some([1.0, spacing, 1.0]), None).is_err(), "{spacing}");
    }
    for text in ["", "RA", "RAR", "RASL", "xyz"] {
        assert!(text.parse::<Orientation>().is_err(), "{text}");
    }
}
