//! Decodes JPEG-LS (ITU-T T.87): lossless and near-lossless, all interleavings.
//!
//! Names are those of the recommendation, as `near` and `run_index`; sections are cited.
//!
//! # Invariants
//! - A stream without end yields zeros, and the number of samples bounds the work, so that damaged
//!   bytes end as wrong or missing samples, never in a loop.
//!
//! Not here: colour transforms, tables of palettes, restarts; streams with these are refused.

/// Lengths of runs, A.2.1.
const J: [u32; 32] = [
    0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3, 4, 4, 5, 5, 6, 6, 7, 7, 8, 9, 10, 11, 12, 13,
    14, 15,
];
const CONTEXTS: usize = 365;

/// The extents that a stream states: rows, columns, samples.
pub(super) fn extents(encoded: &[u8]) -> Option<[usize; 3]> {
    let mut parser = MarkerSegments { bytes: encoded.get(2..)? };
    loop {
        let (marker, body) = parser.next_segment()?;
        if marker == 0xf7 {
            return LsHead::parse(body).map(|head| [head.rows, head.columns, head.samples]);
        }
    }
}

/// Decodes a frame of samples of `width` bytes into `out`, the samples of each plane together,
/// little endian.
///
/// # Errors
/// What is wrong with the frame.
pub(super) fn decode(encoded: &[u8], width: usize, out: &mut [u8]) -> Result<(), String> {
    let mut parser = MarkerSegments { bytes: encoded.get(2..).unwrap_or_default() };
    let (mut head, mut preset, mut done) = (None::<LsHead>, LsPreset::default(), 0);
    while let Some((marker, body)) = parser.next_segment() {
        match (marker, head) {
            (0xf7, _) => head = LsHead::parse(body),
            (0xf8, _) => preset = LsPreset::parse(body).ok_or("its JPEG-LS has tables")?,
            (0xdd, _) => return Err("its JPEG-LS has restarts".to_owned()),
            (0xe8, _) if body.starts_with(b"mrfx") && body.get(4) != Some(&0) => {
                return Err("its JPEG-LS has a colour transform".to_owned());
            }
            (0xda, Some(head)) => {
                let scan = LsScan::parse(body, head, preset).ok_or("its JPEG-LS has a bad scan")?;
                let plane = head.rows * head.columns * width;
                if head.bits.div_ceil(8) as usize > width || done + scan.samples > head.samples {
                    return Err("its JPEG-LS has other samples than its header".to_owned());
                }
                let planes = out.get_mut(done * plane..(done + scan.samples) * plane);
                let planes = planes.ok_or("its JPEG-LS has more samples than its header")?;
                let used = scan.decode(parser.bytes, width, planes)?;
                parser.bytes = &parser.bytes[used..];
                done += scan.samples;
                if done == head.samples {
                    return Ok(());
                }
            }
            _ => {}
        }
    }
    Err("its JPEG-LS ends too early".to_owned())
}

/// The marker segments of a stream.
struct MarkerSegments<'a> {
    bytes: &'a [u8],
}

impl<'a> MarkerSegments<'a> {
    /// The next marker and its segment.
    fn next_segment(&mut self) -> Option<(u8, &'a [u8])> {
        let at = self.bytes.windows(2).position(|pair| pair[0] == 0xff && pair[1] >= 0xc0)?;
        let marker = self.bytes[at + 1];
        let rest = &self.bytes[at + 2..];
        if marker == 0xff || matches!(marker, 0xd0..=0xd9) {
            self.bytes = &self.bytes[at + 1..];
            return if marker == 0xd9 { None } else { Some((marker, &[])) };
        }
        let length = usize::from(u16::from_be_bytes(*rest.first_chunk()?));
        let body = rest.get(2..length)?;
        self.bytes = &rest[length..];
        Some((marker, body))
    }
}

#[derive(Clone, Copy)]
struct LsHead {
    bits: u32,
    rows: usize,
    columns: usize,
    samples: usize,
}

impl LsHead {
    fn parse(body: &[u8]) -> Option<Self> {
        let [bits, a, b, c, d, samples] = *body.first_chunk()?;
        let head = Self {
            bits: u32::from(bits),
            rows: usize::from(u16::from_be_bytes([a, b])),
            columns: usize::from(u16::from_be_bytes([c, d])),
            samples: usize::from(samples),
        };
        let is_sound = (2..=16).contains(&bits) && head.rows > 0 && head.columns > 0;
        (is_sound && head.samples > 0).then_some(head)
    }
}

/// Parameters that a stream may state; 0 where it does not (C.2.4.1.1).
#[derive(Clone, Copy, Default)]
struct LsPreset {
    max: i32,
    thresholds: [i32; 3],
    reset: i32,
}

impl LsPreset {
    fn parse(body: &[u8]) -> Option<Self> {
        let (1, numbers) = body.split_first()? else { return None };
        let number = |i: usize| {
            let pair = [*numbers.get(2 * i)?, *numbers.get(2 * i + 1)?];
            Some(i32::from(u16::from_be_bytes(pair)))
        };
        let thresholds = [number(1)?, number(2)?, number(3)?];
        Some(Self { max: number(0)?, thresholds, reset: number(4)? })
    }
}

/// How samples of several planes follow each other.
#[derive(Clone, Copy, PartialEq)]
enum SampleOrder {
    Lines,
    Samples,
}

/// The parameters of a scan.
struct LsScan {
    rows: usize,
    columns: usize,
    samples: usize,
    interleave: SampleOrder,
    near: i32,
    max: i32,
    thresholds: [i32; 3],
    reset: i32,
    range: i32,
    /// Bits of a mapped error, and the most bits of a code.
    error_bits: u32,
    limit: u32,
}

impl LsScan {
    fn parse(body: &[u8], head: LsHead, preset: LsPreset) -> Option<Self> {
        let samples = usize::from(*body.first()?);
        let [near, interleave, _] = *body.get(1 + 2 * samples..)?.first_chunk()?;
        let interleave = match (interleave, samples) {
            (0 | 1, 1) | (1, 2..=4) => SampleOrder::Lines,
            (2, 1..=4) => SampleOrder::Samples,
            _ => return None,
        };
        let max = if preset.max == 0 { (1 << head.bits) - 1 } else { preset.max };
        let near = i32::from(near);
        if !(3..1 << head.bits).contains(&max) || near > max / 2 {
            return None;
        }
        let bits = |values: i32| (i32::BITS - (values - 1).leading_zeros()).max(1);
        let range = (max + 2 * near) / (2 * near + 1) + 1;
        let sample_bits = bits(max + 1).max(2);
        let defaults = default_thresholds(max, near);
        let threshold = |i: usize| match preset.thresholds[i] {
            0 => defaults[i],
            stated => stated,
        };
        Some(Self {
            rows: head.rows,
            columns: head.columns,
            samples,
            interleave,
            near,
            max,
            thresholds: [0, 1, 2].map(threshold),
            reset: if preset.reset == 0 { 64 } else { preset.reset },
            range,
            error_bits: bits(range),
            limit: 2 * (sample_bits + sample_bits.max(8)),
        })
    }

    /// Decodes the samples of a scan into its planes, and returns how many bytes it had.
    fn decode(&self, bytes: &[u8], width: usize, planes: &mut [u8]) -> Result<usize, String> {
        let mut state = LsState::new(self, bytes);
        // A line has a sample before its first and one after its last.
        let line_samples = self.columns + 2;
        let zeros = || vec![vec![0_i32; line_samples]; self.samples];
        let (mut above, mut line) = (zeros(), zeros());
        let plane_bytes = self.rows * self.columns * width;
        let mut run_indices = vec![0; self.samples];
        for row in 0..self.rows {
            for (above, line) in above.iter_mut().zip(&mut line) {
                above[line_samples - 1] = above[line_samples - 2];
                line[0] = above[1];
            }
            if self.interleave == SampleOrder::Samples && self.samples > 1 {
                state.together(&above, &mut line);
            } else {
                for sample in 0..self.samples {
                    state.run_index = run_indices[sample];
                    state.line(&above[sample], &mut line[sample]);
                    run_indices[sample] = state.run_index;
                }
            }
            for (sample, line) in line.iter().enumerate() {
                let start = sample * plane_bytes + row * self.columns * width;
                let places = planes[start..].chunks_exact_mut(width);
                for (place, value) in places.zip(&line[1..=self.columns]) {
                    place.copy_from_slice(&value.to_le_bytes()[..width]);
                }
            }
            std::mem::swap(&mut above, &mut line);
            if state.bits.is_past_end() {
                return Err("its JPEG-LS ends too early".to_owned());
            }
        }
        Ok(state.bits.position)
    }
}

/// C.2.4.1.1.1
fn default_thresholds(max: i32, near: i32) -> [i32; 3] {
    let clamp = |value: i32, low: i32| if value > max || value < low { low } else { value };
    let [a, b, c] = if max >= 128 {
        let factor = (max.min(4095) + 128) / 256;
        [factor + 2 + 3 * near, factor * 4 + 3 + 5 * near, factor * 17 + 4 + 7 * near]
    } else {
        let factor = 256 / (max + 1);
        [
            (3 / factor + 3 * near).max(2),
            (7 / factor + 5 * near).max(3),
            (21 / factor + 7 * near).max(4),
        ]
    };
    let first = clamp(a, near + 1);
    let second = clamp(b, first);
    [first, second, clamp(c, second)]
}

/// The statistics of a context.
#[derive(Clone, Copy)]
struct LsContext {
    a: i32,
    b: i32,
    c: i32,
    n: i32,
}

/// What changes while a scan is decoded.
struct LsState<'a> {
    scan: &'a LsScan,
    bits: LsBits<'a>,
    contexts: Vec<LsContext>,
    /// Of runs; `b` counts negative errors.
    runs: [LsContext; 2],
    run_index: usize,
}

impl<'a> LsState<'a> {
    fn new(scan: &'a LsScan, bytes: &'a [u8]) -> Self {
        let fresh = LsContext { a: ((scan.range + 32) / 64).max(2), b: 0, c: 0, n: 1 };
        let bits = LsBits { bytes, position: 0, held: 0, count: 0, has_ff: false, lacking: 0 };
        Self { scan, bits, contexts: vec![fresh; CONTEXTS], runs: [fresh; 2], run_index: 0 }
    }

    /// Decodes a line of one plane.
    fn line(&mut self, above: &[i32], line: &mut [i32]) {
        let (near, end) = (self.scan.near, self.scan.columns + 1);
        let mut x = 1;
        while x < end {
            let (ra, rb, rc, rd) = (line[x - 1], above[x], above[x - 1], above[x + 1]);
            let d = [rd - rb, rb - rc, rc - ra];
            if d.iter().any(|d| d.abs() > near) {
                line[x] = self.regular(ra, rb, rc, d);
                x += 1;
                continue;
            }
            let count = self.run(end - x);
            line[x..x + count].fill(ra);
            x += count;
            if x < end {
                let rb = above[x];
                let kind = usize::from((ra - rb).abs() <= near);
                line[x] = self.interruption(ra, rb, kind);
                self.run_index = self.run_index.saturating_sub(1);
                x += 1;
            }
        }
    }

    /// Decodes a line of several planes whose samples alternate.
    fn together(&mut self, above: &[Vec<i32>], line: &mut [Vec<i32>]) {
        let (near, end, samples) = (self.scan.near, self.scan.columns + 1, self.scan.samples);
        let mut x = 1;
        while x < end {
            let gradients = |s: usize, line: &[Vec<i32>]| {
                let (rb, rc) = (above[s][x], above[s][x - 1]);
                [above[s][x + 1] - rb, rb - rc, rc - line[s][x - 1]]
            };
            let is_run = (0..samples).all(|s| gradients(s, line).iter().all(|d| d.abs() <= near));
            if !is_run {
                for s in 0..samples {
                    let d = gradients(s, line);
                    line[s][x] = self.regular(line[s][x - 1], above[s][x], above[s][x - 1], d);
                }
                x += 1;
                continue;
            }
            let count = self.run(end - x);
            for line in line.iter_mut() {
                let ra = line[x - 1];
                line[x..x + count].fill(ra);
            }
            x += count;
            if x < end {
                for s in 0..samples {
                    line[s][x] = self.interruption(line[s][x - 1], above[s][x], 0);
                }
                self.run_index = self.run_index.saturating_sub(1);
                x += 1;
            }
        }
    }

    /// A sample in regular mode, A.4 to A.6.
    fn regular(&mut self, ra: i32, rb: i32, rc: i32, gradients: [i32; 3]) -> i32 {
        let scan = self.scan;
        let [q1, q2, q3] = gradients.map(|d| scan.quantized(d));
        let index = 81 * q1 + 9 * q2 + q3;
        let sign = if index < 0 { -1 } else { 1 };
        let context = &mut self.contexts[index.unsigned_abs() as usize];
        let predicted = match () {
            () if rc >= ra.max(rb) => ra.min(rb),
            () if rc <= ra.min(rb) => ra.max(rb),
            () => ra + rb - rc,
        };
        let predicted = (predicted + sign * context.c).clamp(0, scan.max);
        let k = golomb(context.n, context.a);
        let mapped = self.bits.code(k, scan.limit, scan.error_bits);
        let is_turned = scan.near == 0 && k == 0 && 2 * context.b <= -context.n;
        let error = match (is_turned, mapped & 1 == 1) {
            (true, true) => (mapped - 1) / 2,
            (true, false) => -(mapped / 2) - 1,
            (false, true) => -((mapped + 1) / 2),
            (false, false) => mapped / 2,
        };
        let error = error.clamp(-scan.range, scan.range);
        context.b = context.b.saturating_add(error * (2 * scan.near + 1));
        context.a = context.a.saturating_add(error.abs());
        if context.n == scan.reset {
            (context.a, context.b, context.n) = (context.a >> 1, context.b >> 1, context.n >> 1);
        }
        context.n += 1;
        if context.b <= -context.n {
            context.b = (context.b + context.n).max(1 - context.n);
            context.c = (context.c - 1).max(-128);
        } else if context.b > 0 {
            context.b = (context.b - context.n).min(0);
            context.c = (context.c + 1).min(127);
        }
        scan.sample(predicted, sign * error)
    }

    /// The length of a run, at most `left` (A.7.1).
    fn run(&mut self, left: usize) -> usize {
        let mut count = 0;
        while self.bits.bit() == 1 {
            let whole = 1 << J[self.run_index];
            let taken = whole.min(left - count);
            count += taken;
            if taken == whole {
                self.run_index = (self.run_index + 1).min(31);
            }
            if count == left {
                return count;
            }
        }
        let rest = self.bits.bits(J[self.run_index]) as usize;
        (count + rest).min(left)
    }

    /// The sample that ends a run (A.7.2).
    fn interruption(&mut self, ra: i32, rb: i32, kind: usize) -> i32 {
        let scan = self.scan;
        let (predicted, sign) = match kind {
            1 => (ra, 1),
            _ => (rb, if ra > rb { -1 } else { 1 }),
        };
        let context = &mut self.runs[kind];
        let kind = kind as i32;
        let k = golomb(context.n, context.a + (context.n >> 1) * kind);
        let limit = scan.limit - J[self.run_index] - 1;
        let mapped = self.bits.code(k, limit, scan.error_bits);
        let both = mapped + kind;
        let (is_odd, magnitude) = (both & 1 == 1, (both + 1) / 2);
        let is_negative = (k != 0 || 2 * context.b >= context.n) == is_odd;
        let error = if is_negative { -magnitude } else { magnitude };
        let error = error.clamp(-scan.range, scan.range);
        if error < 0 {
            context.b += 1;
        }
        context.a = context.a.saturating_add((mapped + 1 - kind) >> 1);
        if context.n == scan.reset {
            (context.a, context.b, context.n) = (context.a >> 1, context.b >> 1, context.n >> 1);
        }
        context.n += 1;
        scan.sample(predicted, sign * error)
    }
}

impl LsScan {
    /// A.3.3
    fn quantized(&self, d: i32) -> i32 {
        let [t1, t2, t3] = self.thresholds;
        let size = d.abs();
        let level = match () {
            () if size <= self.near => 0,
            () if size < t1 => 1,
            () if size < t2 => 2,
            () if size < t3 => 3,
            () => 4,
        };
        // The negative levels include their thresholds, as the positive ones do.
        if d < 0 { -level } else { level }
    }

    /// The sample of a prediction and its error, A.4.5.
    fn sample(&self, predicted: i32, error: i32) -> i32 {
        let step = 2 * self.near + 1;
        let mut value = predicted + error * step;
        if value < -self.near {
            value += self.range * step;
        } else if value > self.max + self.near {
            value -= self.range * step;
        }
        value.clamp(0, self.max)
    }
}

/// The parameter of a Golomb code, A.5.1.
fn golomb(n: i32, a: i32) -> u32 {
    (0..24).find(|k| i64::from(n) << k >= i64::from(a)).unwrap_or(24)
}

/// The bits of a scan: after a byte 0xff the next one has seven.
struct LsBits<'a> {
    bytes: &'a [u8],
    /// Bytes that were taken.
    position: usize,
    held: u64,
    count: u32,
    has_ff: bool,
    /// Bits of zeros that were taken after the end.
    lacking: u64,
}

impl LsBits<'_> {
    fn fill(&mut self) {
        while self.count <= 48 {
            let rest = &self.bytes[self.position..];
            let byte = match *rest {
                // A marker ends the scan.
                [] | [0xff] | [0xff, 0x80..=0xff, ..] => None,
                [byte, ..] => Some(byte),
            };
            let bits = if self.has_ff && byte.is_some() { 7 } else { 8 };
            self.held = self.held << bits | u64::from(byte.unwrap_or(0));
            self.count += bits;
            self.has_ff = byte == Some(0xff);
            if byte.is_some() {
                self.position += 1;
            } else {
                self.lacking += 8;
            }
        }
    }

    /// Whether bits after the end were used.
    fn is_past_end(&self) -> bool {
        self.lacking > u64::from(self.count)
    }

    fn bits(&mut self, count: u32) -> u32 {
        if self.count < count {
            self.fill();
        }
        self.count -= count;
        (self.held >> self.count & ((1 << count) - 1)) as u32
    }

    fn bit(&mut self) -> u32 {
        self.bits(1)
    }

    /// A mapped error, A.5.3.
    fn code(&mut self, k: u32, limit: u32, error_bits: u32) -> i32 {
        let most = limit.saturating_sub(error_bits + 1);
        let mut zeros = 0;
        while zeros < most && self.bit() == 0 {
            zeros += 1;
        }
        if zeros < most {
            return (zeros << k | self.bits(k)) as i32;
        }
        // The one after so many zeros.
        self.bit();
        (self.bits(error_bits) + 1) as i32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of T.87, H.3.
    const EXAMPLE: &[u8] = &[
        0xff, 0xd8, 0xff, 0xf7, 0x00, 0x0b, 0x08, 0x00, 0x04, 0x00, 0x04, 0x01, 0x01, 0x11, 0x00,
        0xff, 0xda, 0x00, 0x08, 0x01, 0x01, 0x00, 0x00, 0x00, 0x00, 0xc0, 0x00, 0x00, 0x6c, 0x80,
        0x20, 0x8e, 0x01, 0xc0, 0x00, 0x00, 0x57, 0x40, 0x00, 0x00, 0x6e, 0xe6, 0x00, 0x00, 0x01,
        0xbc, 0x18, 0x00, 0x00, 0x05, 0xd8, 0x00, 0x00, 0x91, 0x60, 0xff, 0xd9,
    ];

    #[test]
    fn the_example_of_the_recommendation_is_decoded() {
        assert_eq!(extents(EXAMPLE), Some([4, 4, 1]));
        let mut out = [0; 16];
        decode(EXAMPLE, 1, &mut out).unwrap();
        let expected = [0, 0, 90, 74, 68, 50, 43, 205, 64, 145, 145, 145, 100, 145, 145, 145];
        assert_eq!(out, expected);
    }

    #[test]
    fn every_cut_and_every_flipped_bit_ends() {
        let mut out = [0; 16];
        for end in 0..EXAMPLE.len() - 3 {
            assert!(decode(&EXAMPLE[..end], 1, &mut out).is_err(), "{end}");
        }
        for bit in 0..EXAMPLE.len() * 8 {
            let mut changed = EXAMPLE.to_vec();
            changed[bit / 8] ^= 1 << (bit % 8);
            if extents(&changed) == Some([4, 4, 1]) {
                let _ = decode(&changed, 1, &mut out);
            }
        }
    }
}
