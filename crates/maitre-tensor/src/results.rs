//! [`Results`]: where [`Kernels::linear`](crate::kernels::Kernels::linear) writes.

use std::ops::Range;

use half::bf16;

use crate::element::Element;
use crate::tiles::Rect;
use crate::weight::layout::LANES;

/// A rectangle of a product's results.
pub(crate) enum Results<'a> {
    /// As computed.
    Floats(Rect<'a, f32>),
    /// Rounded to bf16, as the next product reads them: two to a word.
    Pairs(Rect<'a, u32>),
}

impl Results<'_> {
    /// Rows of the matrix that are written.
    pub(crate) fn rows(&self) -> Range<usize> {
        match self {
            Self::Floats(rect) => rect.rows(),
            Self::Pairs(rect) => rect.rows(),
        }
    }

    /// Output features that are written.
    pub(crate) fn cols(&self) -> Range<usize> {
        match self {
            Self::Floats(rect) => rect.cols(),
            Self::Pairs(rect) => features(rect.cols()),
        }
    }
}

/// The output features whose results lie in some words.
fn features(words: Range<usize>) -> Range<usize> {
    2 * words.start..2 * words.end
}

/// What results are stored as.
pub(crate) trait Stored: Sized {
    /// Results in one of them.
    const RESULTS: usize;

    /// Writes the first results, as many as there is space for.
    fn store(results: &[f32; LANES], place: &mut [Self]);

    /// Writes the results of a row from feature `column` of the rectangle on, sixteen at a time.
    #[inline(always)]
    fn store_row<'a>(
        rect: &mut Rect<'_, Self>,
        row: usize,
        column: usize,
        results: impl Iterator<Item = &'a [f32; LANES]>,
    ) {
        let places = &mut rect.row_mut(row)[column / Self::RESULTS..];
        for (results, place) in results.zip(places.chunks_mut(LANES / Self::RESULTS)) {
            Self::store(results, place);
        }
    }
}

impl Stored for f32 {
    const RESULTS: usize = 1;

    #[inline(always)]
    fn store(results: &[f32; LANES], place: &mut [f32]) {
        match place.first_chunk_mut() {
            Some(place) => *place = *results,
            None => store_part(results, place),
        }
    }
}

impl Stored for u32 {
    const RESULTS: usize = 2;

    #[inline(always)]
    fn store(results: &[f32; LANES], place: &mut [u32]) {
        let words = pairs(results);
        match place.first_chunk_mut() {
            Some(place) => *place = words,
            None => store_part(&words, place),
        }
    }
}

/// Not inlined: the compiler would take both for one copy of a length that it does not know, which is a call.
#[cold]
#[inline(never)]
fn store_part<T: Copy>(results: &[T], place: &mut [T]) {
    place.copy_from_slice(&results[..place.len()]);
}

/// The numbers rounded, the first in the low half of the first word.
#[inline(always)]
fn pairs(results: &[f32; LANES]) -> [u32; LANES / 2] {
    let mut words = [0; LANES / 2];
    for (word, [low, high]) in words.iter_mut().zip(results.as_chunks::<2>().0) {
        let [low, high] = [*low, *high].map(|x| u32::from(<bf16 as Element>::round(x).to_bits()));
        *word = low | high << 16;
    }
    words
}
