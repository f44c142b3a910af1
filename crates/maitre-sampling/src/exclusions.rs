//! Which tokens a row may not become, beside what its logits and the request's parameters say.

use crate::TokenMask;

/// Tokens that are not chosen at one position. A list of banned tokens is one: `(&[7, 9]).into()`.
#[derive(Clone, Copy, Debug, Default)]
pub struct Exclusions<'a> {
    /// These are not: stop tokens while `min_tokens` holds.
    pub banned: &'a [u32],
    /// If there is a mask, all that it does not allow are not either.
    pub mask: Option<&'a TokenMask>,
}

impl Exclusions<'_> {
    /// Whether nothing is excluded.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.banned.is_empty() && self.mask.is_none()
    }
}

impl<'a> From<&'a [u32]> for Exclusions<'a> {
    fn from(banned: &'a [u32]) -> Self {
        Self { banned, mask: None }
    }
}

impl<'a> From<&'a Vec<u32>> for Exclusions<'a> {
    fn from(banned: &'a Vec<u32>) -> Self {
        banned.as_slice().into()
    }
}

impl<'a, const N: usize> From<&'a [u32; N]> for Exclusions<'a> {
    fn from(banned: &'a [u32; N]) -> Self {
        banned.as_slice().into()
    }
}
