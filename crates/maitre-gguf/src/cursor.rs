//! Reading a file from its beginning, never beyond its end.

use std::ops::Range;

use crate::GgufError;

/// What of the bytes has been read.
#[derive(Debug, Clone)]
pub(crate) struct Cursor<'a> {
    bytes: &'a [u8],
    position: usize,
}

impl<'a> Cursor<'a> {
    /// At `position` of a file.
    pub(crate) fn at(bytes: &'a [u8], position: usize) -> Self {
        Self { bytes, position }
    }

    pub(crate) fn position(&self) -> usize {
        self.position
    }

    fn left(&self) -> usize {
        self.bytes.len().saturating_sub(self.position)
    }

    /// That `count` things of at least `each` bytes can follow.
    pub(crate) fn expect(
        &self,
        count: u64,
        each: usize,
        what: impl Fn() -> String,
    ) -> Result<usize, GgufError> {
        let needed = count.saturating_mul(each as u64);
        match usize::try_from(count) {
            Ok(count) if needed <= self.left() as u64 => Ok(count),
            _ => Err(GgufError::Truncated {
                what: what(),
                position: self.position,
                needed,
                len: self.bytes.len(),
            }),
        }
    }

    /// The place of the next `len` bytes, which are read.
    pub(crate) fn skip(
        &mut self,
        len: u64,
        what: impl Fn() -> String,
    ) -> Result<Range<usize>, GgufError> {
        let len = self.expect(len, 1, what)?;
        let begin = self.position;
        self.position += len;
        Ok(begin..self.position)
    }

    /// Bytes that were skipped.
    pub(crate) fn bytes(&self, place: Range<usize>) -> Option<&'a [u8]> {
        self.bytes.get(place)
    }

    fn array<const N: usize>(&mut self, what: impl Fn() -> String) -> Result<[u8; N], GgufError> {
        let place = self.skip(N as u64, what)?;
        let mut array = [0; N];
        if let Some(bytes) = self.bytes.get(place) {
            array.copy_from_slice(bytes);
        }
        Ok(array)
    }

    pub(crate) fn u32(&mut self, what: impl Fn() -> String) -> Result<u32, GgufError> {
        self.array(what).map(u32::from_le_bytes)
    }

    pub(crate) fn u64(&mut self, what: impl Fn() -> String) -> Result<u64, GgufError> {
        self.array(what).map(u64::from_le_bytes)
    }

    /// A length and so many bytes of UTF-8.
    pub(crate) fn text(&mut self, what: impl Fn() -> String) -> Result<&'a str, GgufError> {
        let len = self.u64(&what)?;
        let position = self.position;
        let place = self.skip(len, &what)?;
        let bytes = self.bytes.get(place).unwrap_or_default();
        std::str::from_utf8(bytes).map_err(|_| GgufError::NotText {
            what: what(),
            position,
        })
    }
}
