//! Numbers that look like chance and are the same for the same seed.
//!
//! Never: anything from outside.

#[derive(Debug, Clone)]
pub struct Chance(u64);

impl Chance {
    pub fn new(seed: u64) -> Self {
        Chance(seed)
    }

    /// The one for the `n`-th part of what `seed` stands for.
    pub fn part(seed: u64, n: u64) -> Self {
        let mut chance = Chance(seed ^ n.wrapping_mul(0xd134_2543_de82_ef95));
        chance.next();
        chance
    }

    /// SplitMix64.
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Less than `end`, which is not 0.
    pub fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    pub fn in_256(&mut self, chances: u64) -> bool {
        self.next() & 255 < chances
    }
}
