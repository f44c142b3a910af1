//! Rows of queries and keys whose rotary pairs lie side by side, brought into the order of halves.
//!
//! ```text
//! in neighbours   a0 b0 a1 b1 a2 b2  c d      pair i is a_i and b_i; c and d are not turned
//! in halves       a0 a1 a2 b0 b1 b2  c d
//! ```

use std::borrow::Cow;
use std::ops::Range;

use crate::checkpoint::Stored;

/// Heads whose first rows lie in pairs of neighbours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Neighbours {
    pub(crate) head_dim: usize,
    /// Rows of a head that are turned, even and at most `head_dim`.
    pub(crate) turned: usize,
}

impl Neighbours {
    /// Whole heads in the order of halves; a row is `row` items.
    pub(crate) fn in_halves<T: Copy>(self, heads: &[T], row: usize) -> Vec<T> {
        let mut out = Vec::with_capacity(heads.len());
        let (turned, head) = (self.turned * row, self.head_dim * row);
        for head in heads.chunks_exact(head.max(1)) {
            let (pairs, rest) = head.split_at(turned.min(head.len()));
            for half in 0..2 {
                for pair in pairs.chunks_exact(2 * row.max(1)) {
                    out.extend_from_slice(&pair[half * row..][..row]);
                }
            }
            out.extend_from_slice(rest);
        }
        out
    }

    /// A tensor with some of its rows, which are whole heads, in the order of halves. A row that is stored in blocks is
    /// whole ones, so that rows change places as they are.
    pub(crate) fn of_rows<'a>(self, stored: Stored<'a>, rows: &[Range<usize>]) -> Stored<'a> {
        let all = stored.shape().first().copied().unwrap_or(1).max(1);
        let row = stored.bytes().len() / all;
        let reorder = |bytes: Cow<'a, [u8]>| {
            let mut bytes = bytes.into_owned();
            for rows in rows {
                if let Some(heads) = bytes.get_mut(rows.start * row..rows.end * row) {
                    let ordered = self.in_halves(heads, row);
                    heads.copy_from_slice(&ordered);
                }
            }
            Cow::Owned(bytes)
        };
        match stored {
            Stored::Dense(mut dense) => {
                dense.bytes = reorder(dense.bytes);
                Stored::Dense(dense)
            }
            Stored::Blocks(mut blocks) => {
                blocks.bytes = reorder(blocks.bytes);
                Stored::Blocks(blocks)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_of_rows_become_halves() {
        // Two heads of four rows of two bytes, in pairs: elements 0 2, 1 3 of each head.
        let bytes = [0, 0, 2, 2, 1, 1, 3, 3, 4, 4, 6, 6, 5, 5, 7, 7];
        let rows: Vec<u8> = (0..8).flat_map(|row| [row; 2]).collect();
        let whole = Neighbours {
            head_dim: 4,
            turned: 4,
        };
        assert_eq!(whole.in_halves(&bytes, 2), rows);
    }

    #[test]
    fn rows_that_are_not_turned_stay() {
        let part = Neighbours {
            head_dim: 6,
            turned: 4,
        };
        let heads = [0, 2, 1, 3, 4, 5, 10, 12, 11, 13, 14, 15];
        let ordered = [0, 1, 2, 3, 4, 5, 10, 11, 12, 13, 14, 15];
        assert_eq!(part.in_halves(&heads, 1), ordered);
    }
}
