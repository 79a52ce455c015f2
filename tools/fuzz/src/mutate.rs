//! Breaking valid inputs in small ways.

/// Makes inputs out of seeds.
pub struct Mutator {
    state: u64,
    words: &'static [&'static [u8]],
}

/// Numbers at which arithmetic goes wrong.
const EDGES: [u64; 14] = [
    0,
    1,
    7,
    0x7f,
    0xff,
    0xfff,
    0x1000,
    0x7fff_ffff,
    0xffff_fff0,
    0xffff_ffff,
    0x7fff_ffff_ffff,
    1 << 63,
    u64::MAX - 0xfff,
    u64::MAX,
];

/// Longer inputs only cost time.
const LONGEST: usize = 64 * 1024;

impl Mutator {
    /// `words` are pieces that mean something in the format.
    pub fn new(seed: u64, words: &'static [&'static [u8]]) -> Self {
        Self { state: seed | 1, words }
    }

    /// splitmix64.
    fn random(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.state;
        z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    }

    fn one_in(&mut self, n: u64) -> bool {
        self.random().is_multiple_of(n)
    }

    /// Below `bound`; 0 where that is 0. Small numbers are the likelier ones every other time,
    /// because headers are at the start.
    fn below(&mut self, bound: usize) -> usize {
        if bound == 0 {
            return 0;
        }
        let bound = if self.one_in(2) { bound } else { bound.min(256) };
        (self.random() % bound as u64) as usize
    }

    /// Puts the next input into `out`.
    pub fn next(&mut self, seeds: &[Vec<u8>], out: &mut Vec<u8>) {
        out.clear();
        out.extend_from_slice(&seeds[self.below(seeds.len())]);
        for _ in 0..=self.random() % 6 {
            self.change(seeds, out);
        }
        out.truncate(LONGEST);
    }

    fn change(&mut self, seeds: &[Vec<u8>], out: &mut Vec<u8>) {
        let at = self.below(out.len());
        match self.random() % 12 {
            0 if !out.is_empty() => out[at] ^= 1 << (self.random() % 8),
            1 if !out.is_empty() => out[at] = self.random() as u8,
            2 => out.truncate(at),
            3 => {
                let end = (at + self.below(64)).min(out.len());
                out.drain(at..end);
            }
            4 => {
                let end = (at + self.below(64)).min(out.len());
                let piece = out[at..end].to_vec();
                let to = self.below(out.len() + 1);
                out.splice(to..to, piece);
            }
            5 | 6 => {
                let number = EDGES[self.below(EDGES.len())].wrapping_add(self.random() % 3).wrapping_sub(1);
                let width = 1 << (self.random() % 4);
                let bytes = if self.one_in(4) { number.to_be_bytes() } else { number.to_le_bytes() };
                let bytes = if self.one_in(4) { &bytes[8 - width..] } else { &bytes[..width] };
                // Fields are aligned more often than not.
                let at = if self.one_in(4) { at } else { at & !(width - 1) };
                overwrite(out, at, bytes);
            }
            7 => {
                let number = EDGES[self.below(EDGES.len())];
                overwrite(out, at, format!("{:08x}", number as u32).as_bytes());
            }
            8 | 9 if !self.words.is_empty() => {
                let word = self.words[self.below(self.words.len())];
                if self.one_in(2) {
                    overwrite(out, at, word)
                } else {
                    drop(out.splice(at..at, word.iter().copied()))
                }
            }
            10 => {
                let other = &seeds[self.below(seeds.len())];
                let from = self.below(other.len());
                out.truncate(at);
                out.extend_from_slice(&other[from..]);
            }
            _ => {
                let byte = if self.one_in(2) { 0 } else { self.random() as u8 };
                let count = self.below(64);
                out.splice(at..at, std::iter::repeat_n(byte, count));
            }
        }
    }
}

/// Writes `bytes` over `out` at `at`, as far as it is long.
fn overwrite(out: &mut [u8], at: usize, bytes: &[u8]) {
    let len = bytes.len().min(out.len().saturating_sub(at));
    out[at..at + len].copy_from_slice(&bytes[..len]);
}
