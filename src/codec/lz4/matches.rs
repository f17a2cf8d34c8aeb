//! Finds repeated bytes for the LZ4 encoder: few and long matches.
//!
//! Decoding time depends on the number of sequences, not of bytes, so short matches are of no use,
//! and need not be searched for. Positions lie on a grid. Likely offsets (the byte before, a row, a
//! slice, a bit plane) are tried before a hash table of words. A table entry counts only if its
//! whole word agrees, so that a position in noise costs one load, and a chain of positions holds
//! true candidates only. Steps grow where nothing is found.
//!
//! # Invariants
//! - Matches come in order, do not overlap, and obey the format's rules about a block's end.
//! - The result depends on the source and the search alone, not on what was searched before.
//!
//! Not here: how matches are written (`encode`), and which search suits which bytes
//! (`codec::strategy`).

/// Bytes that are hashed, and that must agree, at once; so also the shortest match.
const WORD: usize = 8;
/// Bytes that are compared at once: an AVX2 register.
const WIDE: usize = 32;
/// The last bytes of a block are literals.
const LAST_LITERALS: usize = 5;
/// The last match begins at least that many bytes before the block's end.
const LAST_BEGIN: usize = 12;
const TABLE_BITS: u32 = 14;
const SLOTS: usize = 1 << TABLE_BITS;
/// The longest source: offsets have 16 bits.
pub(super) const PIECE: usize = 1 << 16;
/// A match this long is taken without looking for a longer one.
const LONG_ENOUGH: usize = 256;
/// How many words of a match, evenly spread, enter the table.
const WORDS_INSIDE: usize = 64;
/// A run is preferred to a match that is longer by less.
///
/// A reader uses a constant plane without copying it only if a run describes it, but a match at the
/// distance of a plane may begin a few bytes earlier. Runs of labels are too short to gain.
const RUN_BONUS: usize = 16;
/// The longest step where nothing is found, in steps of the grid.
const MAX_STEP: usize = 8;

/// What to search for.
#[derive(Clone, Copy, Debug)]
pub(in crate::codec) struct Search {
    /// Shortest match in bytes, at least 8.
    pub(in crate::codec) min_match: usize,
    /// Matches are searched for at multiples of so many bytes.
    pub(in crate::codec) grid: usize,
    /// Offsets that are tried first, in bytes, at least 1; of equal matches the last one wins.
    pub(in crate::codec) likely: [usize; 3],
    /// Candidates that are taken out of the table for each position.
    pub(in crate::codec) depth: usize,
    /// A longer match is looked for that many steps of the grid further.
    pub(in crate::codec) lazy_steps: usize,
    /// Steps double after two to the power of so many positions without a match.
    pub(in crate::codec) patience: u32,
}

/// `length` bytes from `begin` on repeat those `offset` bytes before.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Match {
    pub(super) begin: usize,
    pub(super) length: usize,
    pub(super) offset: usize,
}

impl Match {
    fn end(&self) -> usize {
        self.begin + self.length
    }

    /// The length, and the bonus of a run that a reader need not copy.
    fn weight(&self) -> usize {
        let is_long_run = self.offset == 1 && self.length >= LONG_ENOUGH;
        self.length + if is_long_run { RUN_BONUS } else { 0 }
    }
}

/// The positions of words; one for each thread.
pub(in crate::codec) struct MatchFinder {
    /// For each hash, the last position of such a word, plus `base`.
    last: Box<[u32; SLOTS]>,
    /// For each position, the one before it that has the same word, plus `base`; 0 if none.
    before: Box<[u32; PIECE]>,
    /// Smaller numbers belong to earlier sources, so that the tables need not be cleared.
    base: u32,
}

impl MatchFinder {
    pub(in crate::codec) fn new() -> Self {
        Self { last: zeros(), before: zeros(), base: 1 }
    }

    /// Passes each match in `source`, at most [`PIECE`] bytes, to `put`. `false`, before the end,
    /// if more than `limit` bytes lie in no match.
    #[inline(always)]
    pub(super) fn search(
        &mut self,
        source: &[u8],
        search: &Search,
        limit: usize,
        mut put: impl FnMut(Match),
    ) -> bool {
        let Some(last_begin) = source.len().checked_sub(LAST_BEGIN) else { return true };
        let mut positions = self.begin(source);
        let (mut at, mut anchor, mut literals, mut misses, mut looked) = (0, 0, 0, 0usize, 0);
        let mut best = Match::default();
        while at <= last_begin {
            best = positions.longest(at, anchor, best, search);
            if best.length < search.min_match {
                if literals + at - anchor > limit {
                    return false;
                }
                best = Match::default();
                misses += 1;
                at += search.grid * (1 + (misses >> search.patience)).min(MAX_STEP);
                continue;
            }
            // Only within the match, so that no position enters the table twice.
            let next = at + search.grid;
            if looked < search.lazy_steps && best.length < LONG_ENOUGH && next < best.end() {
                looked += 1;
                at = next;
                continue;
            }
            put(best);
            literals += best.begin - anchor;
            anchor = best.end();
            positions.insert_inside(next, &best, last_begin, search.grid);
            at = anchor.next_multiple_of(search.grid);
            (best, misses, looked) = (Match::default(), 0, 0);
        }
        if best.length >= search.min_match {
            put(best);
        }
        true
    }

    /// Uses up the numbers that tell sources apart.
    #[cfg(test)]
    pub(super) fn exhaust(&mut self) {
        self.base = u32::MAX - PIECE as u32;
    }

    fn begin<'a>(&'a mut self, source: &'a [u8]) -> Positions<'a> {
        assert!(source.len() <= PIECE, "offsets have 16 bits");
        if self.base > u32::MAX - 2 * PIECE as u32 {
            self.last.fill(0);
            self.base = 1;
        }
        let base = self.base;
        self.base += source.len() as u32;
        Positions { source, base, last: &mut self.last, before: &mut self.before }
    }
}

#[allow(clippy::unnecessary_box_returns)] // A thread's stack may be smaller than the tables.
fn zeros<const N: usize>() -> Box<[u32; N]> {
    vec![0; N].into_boxed_slice().try_into().expect("the vector has that length")
}

/// The positions of one source's words.
struct Positions<'a> {
    source: &'a [u8],
    base: u32,
    last: &'a mut [u32; SLOTS],
    before: &'a mut [u32; PIECE],
}

impl Positions<'_> {
    /// Enters `at`, which has the word `now`, and returns the position before it of the same word,
    /// plus `base`; 0 if there is none.
    #[inline(always)]
    fn insert(&mut self, at: usize, now: u64) -> u32 {
        let slot = &mut self.last[hash(now)];
        let is_same = *slot >= self.base && word(self.source, (*slot - self.base) as usize) == now;
        let earlier = if is_same { *slot } else { 0 };
        // A run is found without its words, which would hide all other positions of that word.
        if at == 0 || word(self.source, at - 1) != now {
            self.before[at] = earlier;
            *slot = at as u32 + self.base;
        }
        earlier
    }

    /// Enters positions within a match from `from` on.
    #[inline(always)]
    fn insert_inside(&mut self, from: usize, found: &Match, last_begin: usize, grid: usize) {
        let stride = (found.length / WORDS_INSIDE).next_multiple_of(grid).max(grid);
        let mut at = from;
        if found.offset == 1 {
            // Only the words that reach beyond the run are new.
            at = at.max((found.end() - WORD + 1).next_multiple_of(grid));
        }
        while at < found.end().min(last_begin) {
            self.insert(at, word(self.source, at));
            at += stride;
        }
    }

    /// The longest of `best` and the matches at `at`, each extended back to `anchor` at most.
    #[inline(always)]
    fn longest(&mut self, at: usize, anchor: usize, mut best: Match, search: &Search) -> Match {
        let now = word(self.source, at);
        let mut candidate = self.insert(at, now);
        let [third, second, first] = search.likely;
        for offset in [1, first, second, third] {
            if offset <= at && word(self.source, at - offset) == now {
                best = longer(best, extend(self.source, anchor, at - offset, at));
            }
        }
        for _ in 0..search.depth {
            if candidate < self.base {
                break;
            }
            let from = (candidate - self.base) as usize;
            best = longer(best, extend(self.source, anchor, from, at));
            if best.length >= LONG_ENOUGH {
                break;
            }
            candidate = self.before[from];
        }
        best
    }
}

/// Of equals the first.
#[inline(always)]
fn longer(best: Match, found: Match) -> Match {
    if found.weight() > best.weight() { found } else { best }
}

#[inline(always)]
fn word(source: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(source[at..at + WORD].try_into().expect("a word's length"))
}

/// Fibonacci hashing: the upper bits of a product depend on all bits of the word.
#[inline(always)]
fn hash(word: u64) -> usize {
    (word.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> (u64::BITS - TABLE_BITS)) as usize
}

/// How many bytes from `a` and from `b` on agree; `a` lies before `b`, which does not pass `end`.
#[inline(always)]
fn common(source: &[u8], mut a: usize, mut b: usize, end: usize) -> usize {
    let begin = b;
    // The compiler compares arrays of this length with vector instructions.
    let wide = |at: usize| -> &[u8; WIDE] { source[at..at + WIDE].try_into().expect("its length") };
    while b + WIDE <= end && wide(a) == wide(b) {
        (a, b) = (a + WIDE, b + WIDE);
    }
    while b + WORD <= end {
        let difference = word(source, a) ^ word(source, b);
        if difference != 0 {
            return b - begin + difference.trailing_zeros() as usize / 8;
        }
        (a, b) = (a + WORD, b + WORD);
    }
    while b < end && source[a] == source[b] {
        (a, b) = (a + 1, b + 1);
    }
    b - begin
}

/// The match of `at` with `from`, whose words agree, as far as it goes both ways.
#[inline(always)]
fn extend(source: &[u8], anchor: usize, from: usize, at: usize) -> Match {
    let end = source.len() - LAST_LITERALS;
    let forward = (WORD + common(source, from + WORD, at + WORD, end)).min(end - at);
    let most = (at - anchor).min(from);
    let back = (1..=most).take_while(|i| source[at - i] == source[from - i]).count();
    Match { begin: at - back, length: forward + back, offset: at - from }
}
