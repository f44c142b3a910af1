//! [`Scratch`]: memory for what a tile computes on the way.

use crate::TensorError;
use crate::aligned::ALIGNMENT;

/// Memory that a member reuses from tile to tile; it grows to the largest tile and stays.
#[derive(Debug, Default)]
pub(crate) struct Scratch {
    floats: Vec<f32>,
    words: Vec<u32>,
    integers: Vec<i32>,
    records: Vec<f32>,
}

/// Elements that a tile, or an operator, may need of each list of a [`Scratch`].
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Need {
    pub(crate) floats: usize,
    pub(crate) words: usize,
    pub(crate) integers: usize,
    pub(crate) records: usize,
}

impl Scratch {
    /// Makes space for `need`, so that what stays within it allocates nothing. The memory is
    /// reserved, not touched.
    pub(super) fn reserve(&mut self, need: Need) -> Result<(), TensorError> {
        reserve(&mut self.floats, need.floats)?;
        reserve(&mut self.words, need.words)?;
        reserve(&mut self.integers, need.integers)?;
        reserve(&mut self.records, need.records)
    }

    /// `len` numbers with unspecified contents.
    pub(crate) fn floats(&mut self, len: usize) -> &mut [f32] {
        if self.floats.len() < len {
            self.floats.resize(len, 0.0);
        }
        &mut self.floats[..len]
    }

    /// Numbers, words and integers with unspecified contents, each list starting at a cache line.
    pub(crate) fn aligned(
        &mut self,
        floats: usize,
        words: usize,
        integers: usize,
    ) -> (&mut [f32], &mut [u32], &mut [i32]) {
        (
            at_cache_line(&mut self.floats, floats),
            at_cache_line(&mut self.words, words),
            at_cache_line(&mut self.integers, integers),
        )
    }

    /// So many words and numbers with unspecified contents.
    pub(crate) fn words_and_floats(
        &mut self,
        words: usize,
        floats: usize,
    ) -> (&mut [u32], &mut [f32]) {
        if self.words.len() < words {
            self.words.resize(words, 0);
        }
        if self.floats.len() < floats {
            self.floats.resize(floats, 0.0);
        }
        (&mut self.words[..words], &mut self.floats[..floats])
    }

    /// A list of its own, which may be lent together with the others.
    pub(crate) fn take_records(&mut self) -> Vec<f32> {
        std::mem::take(&mut self.records)
    }

    /// Gives back what [`Scratch::take_records`] lent.
    pub(crate) fn give_records(&mut self, records: Vec<f32>) {
        self.records = records;
    }
}

/// Space for `len` elements that start at a cache line.
fn reserve<T>(list: &mut Vec<T>, len: usize) -> Result<(), TensorError> {
    let most = len.saturating_add(ALIGNMENT / size_of::<T>());
    list.try_reserve_exact(most.saturating_sub(list.len()))
        .map_err(|_| TensorError::Reserve {
            what: "the memory of a compute thread",
            bytes: most.saturating_mul(size_of::<T>()),
        })
}

/// The first `len` elements that start at a cache line, of a list that grows if it is too short.
fn at_cache_line<T: Copy + Default>(list: &mut Vec<T>, len: usize) -> &mut [T] {
    let most = len + ALIGNMENT / size_of::<T>();
    if list.len() < most {
        list.resize(most, T::default());
    }
    let offset = list.as_ptr().align_offset(ALIGNMENT);
    &mut list[offset..offset + len]
}
