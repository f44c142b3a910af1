//! Memory to read from: more than any cache holds, in huge pages.
//!
//! With pages of 4 KiB the processor looks up an address translation every 64 lines, and what is
//! measured is partly that. Pages of 2 MiB leave the memory itself.

use crate::TensorError;
use crate::aligned::AlignedBytes;

/// Bytes of a cache line, and of the largest register.
pub(super) const LINE: usize = 64;

/// Bytes that all members of a team read before they come to the same again: no cache holds them
/// that long.
const ALL: usize = 512 << 20;

/// Parts that they are read in, one each round.
const PARTS: usize = 8;

/// The memory of one member.
pub(super) struct Region {
    memory: AlignedBytes,
    next_part: usize,
}

impl Region {
    /// Reserves the share of one of `members`.
    pub(super) fn of_share(members: usize) -> Result<Self, TensorError> {
        let bytes = ALL.div_ceil(members).next_multiple_of(PARTS * LINE);
        // The pages that weights lie in.
        let memory = AlignedBytes::in_large_pages(bytes).ok_or(TensorError::Reserve {
            what: "measuring how fast memory is read",
            bytes,
        })?;
        Ok(Self {
            memory,
            next_part: 0,
        })
    }

    /// Writes every byte: pages never written to share one of zeros, which a cache holds.
    pub(super) fn touch(&mut self) {
        self.memory.as_mut_slice::<u8>().fill(0x5a);
    }

    /// Bytes of a part.
    pub(super) fn part_bytes(&self) -> usize {
        self.memory.len() / PARTS
    }

    /// The part that was not read for the longest time, line by line.
    pub(super) fn next_part(&mut self) -> &[[u8; LINE]] {
        let start = self.next_part * self.part_bytes();
        self.next_part = (self.next_part + 1) % PARTS;
        self.memory.as_slice::<u8>()[start..start + self.part_bytes()]
            .as_chunks()
            .0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_parts_cover_every_byte_of_every_member_once() {
        for members in [1, 2, 3, 7] {
            let mut region = Region::of_share(members).unwrap();
            let first = region.next_part().as_ptr().addr();
            let mut expected = first;
            for _ in 1..PARTS {
                expected += region.part_bytes();
                assert_eq!(region.next_part().as_ptr().addr(), expected);
            }
            assert_eq!(region.next_part().as_ptr().addr(), first);
            assert!(members * PARTS * region.part_bytes() >= ALL);
            assert_eq!(size_of_val(region.next_part()), region.part_bytes());
        }
    }
}
