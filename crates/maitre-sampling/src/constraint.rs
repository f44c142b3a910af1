//! What a constrained answer asks of whatever knows its grammar.
//!
//! A [`Constraint`] is the state of one answer. It says before each token which ones may come, as a [`TokenMask`],
//! and learns which one came. It may be slow: it is called on a thread of its own, behind the model's computation, and
//! a mask that is late delays its own request only.
//!
//! ```
//! use maitre_sampling::{Constraint, TokenMask};
//!
//! /// Token 1 and token 2 in turn, four of them.
//! struct Turns(u32);
//!
//! impl Constraint for Turns {
//!     fn masks(&mut self, drafts: &[u32], masks: &mut [TokenMask]) {
//!         for (index, mask) in (self.0..4).zip(&mut *masks) {
//!             mask.allow(1 + index % 2);
//!             let draft = drafts.get((index - self.0) as usize);
//!             if draft != Some(&(1 + index % 2)) {
//!                 return; // what comes behind a token that is not allowed does not matter
//!             }
//!         }
//!     }
//!     fn advance(&mut self, tokens: &[u32]) {
//!         self.0 += tokens.len() as u32;
//!     }
//!     fn forced(&self) -> Vec<u32> {
//!         (self.0..4).map(|index| 1 + index % 2).collect()
//!     }
//!     fn is_complete(&self) -> bool {
//!         self.0 == 4
//!     }
//! }
//!
//! let mut masks = vec![TokenMask::new(9); 3];
//! Turns(2).masks(&[1, 7], &mut masks);
//! assert!(masks[0].allows(1) && masks[1].allows(2) && masks[2].is_empty());
//! ```

use std::fmt::Debug;

use crate::TokenMask;

/// The state of one answer under a constraint. All its methods are called on the same thread at a time, in no hurry,
/// and none of them twice at once. A panic fails the request and no other.
pub trait Constraint: Send {
    /// Which tokens may come next, and which behind each of `drafts`: `masks[i]` is for the position behind the first
    /// `i` drafts, so there is one more mask than drafts. The state stays as it is.
    ///
    /// All masks arrive cleared, for the tokens that the model may generate; end-of-sequence tokens are among them,
    /// and have to be allowed where the answer may end. Masks behind the first draft that is not allowed mean nothing:
    /// they may be left as they are.
    ///
    /// A first mask that allows nothing says that the answer cannot go on. If the constraint
    /// [is complete](Self::is_complete), the answer ends there and ends well; otherwise the request fails with an
    /// error that says so.
    ///
    /// Called once before the first token, once after each [`advance`](Self::advance), and perhaps again with other
    /// drafts.
    fn masks(&mut self, drafts: &[u32], masks: &mut [TokenMask]);

    /// The answer goes on with `tokens`, at least one, each of them allowed. Called once per step that generated
    /// something, in order; not for tokens that end the answer.
    fn advance(&mut self, tokens: &[u32]);

    /// Tokens that have to come next, as far as they are known: of each, its mask allows that one alone. They are
    /// drafted, so that one step may generate them all. Empty if there is a choice, or if it is not worth finding out.
    fn forced(&self) -> Vec<u32>;

    /// Whether the answer may end where it is. It goes on all the same while its mask allows anything.
    fn is_complete(&self) -> bool;

    /// Why the answer cannot go on, where the constraint itself has failed: the request's error says so then.
    fn failure(&self) -> Option<String> {
        None
    }
}

/// What a request brings: it makes a constraint for each of its answers.
pub trait ConstraintSource: Debug + Send + Sync {
    /// The state of an answer that has no token yet. Called once for each answer, when its request runs first, on the
    /// thread of its constraint: it may be slow.
    fn start(&self) -> Box<dyn Constraint>;
}
