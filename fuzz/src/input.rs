//! Turns the fuzzer's bytes into numbers; where they end, zeros follow.

/// The rest of the bytes.
pub(crate) struct Input<'a>(pub(crate) &'a [u8]);

impl<'a> Input<'a> {
    /// The next byte.
    pub(crate) fn byte(&mut self) -> u8 {
        self.array::<1>()[0]
    }

    /// The next two bytes as a number.
    pub(crate) fn u16(&mut self) -> u16 {
        u16::from_le_bytes(self.array())
    }

    /// The next eight bytes as a number.
    pub(crate) fn u64(&mut self) -> u64 {
        u64::from_le_bytes(self.array())
    }

    /// A number below `n`, from one byte.
    pub(crate) fn below(&mut self, n: usize) -> usize {
        usize::from(self.byte()) % n
    }

    /// The next `n` bytes, or those that are left.
    pub(crate) fn take(&mut self, n: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at(n.min(self.0.len()));
        self.0 = rest;
        taken
    }

    fn array<const N: usize>(&mut self) -> [u8; N] {
        let mut bytes = [0; N];
        let taken = self.take(N);
        bytes[..taken.len()].copy_from_slice(taken);
        bytes
    }

    /// Overwrites bytes of `target`: triples of a place and a value, until `count` are taken.
    pub(crate) fn edit(&mut self, count: usize, target: &mut [u8]) {
        for edit in self.take(3 * count).chunks_exact(3) {
            if !target.is_empty() {
                let at = usize::from(u16::from_le_bytes([edit[0], edit[1]])) % target.len();
                target[at] = edit[2];
            }
        }
    }
}
