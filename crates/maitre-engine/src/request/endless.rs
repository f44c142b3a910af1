//! A constrained answer that goes on past the places where it might end (`ignore_eos`).
//!
//! Without a constraint a request that ignores the end-of-sequence tokens goes on behind them. What a form allows
//! behind its end is nothing, so there such a token is not taken while anything else may come. Where nothing else may,
//! the answer is complete and ends.

use std::sync::Arc;

use maitre_sampling::{Constraint, ConstraintSource, TokenMask};

use crate::ConstraintHandle;

/// What `source` allows, without the tokens in `eos`.
#[derive(Debug)]
pub(super) struct Endless {
    source: ConstraintHandle,
    eos: Arc<[u32]>,
}

impl Endless {
    pub(super) fn new(source: ConstraintHandle, eos: &[u32]) -> Self {
        Self {
            source,
            eos: eos.into(),
        }
    }
}

impl ConstraintSource for Endless {
    fn start(&self) -> Box<dyn Constraint> {
        Box::new(EndlessAnswer {
            answer: self.source.start(),
            eos: Arc::clone(&self.eos),
        })
    }
}

struct EndlessAnswer {
    answer: Box<dyn Constraint>,
    eos: Arc<[u32]>,
}

impl Constraint for EndlessAnswer {
    fn masks(&mut self, drafts: &[u32], masks: &mut [TokenMask]) {
        self.answer.masks(drafts, masks);
        for mask in masks {
            self.eos.iter().for_each(|&id| mask.forbid(id));
        }
    }

    fn advance(&mut self, tokens: &[u32]) {
        self.answer.advance(tokens);
    }

    fn forced(&self) -> Vec<u32> {
        let mut forced = self.answer.forced();
        let end = forced.iter().position(|id| self.eos.contains(id));
        forced.truncate(end.unwrap_or(forced.len()));
        forced
    }

    fn is_complete(&self) -> bool {
        self.answer.is_complete()
    }

    fn failure(&self) -> Option<String> {
        self.answer.failure()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Up to three times token 1, and the end (0) wherever one has come.
    #[derive(Debug)]
    struct UpToThree(u32);

    impl Constraint for UpToThree {
        fn masks(&mut self, _drafts: &[u32], masks: &mut [TokenMask]) {
            if self.0 < 3 {
                masks[0].allow(1);
            }
            if self.0 > 0 {
                masks[0].allow(0);
            }
        }

        fn advance(&mut self, tokens: &[u32]) {
            self.0 += tokens.len() as u32;
        }

        fn forced(&self) -> Vec<u32> {
            vec![1, 0]
        }

        fn is_complete(&self) -> bool {
            self.0 > 0
        }
    }

    impl ConstraintSource for UpToThree {
        fn start(&self) -> Box<dyn Constraint> {
            Box::new(Self(0))
        }
    }

    #[test]
    fn the_end_is_not_taken_while_anything_else_may_come() {
        let endless = Endless::new(ConstraintHandle::new(UpToThree(0)), &[0]);
        let mut answer = endless.start();
        for came in 0..3 {
            let mut masks = [TokenMask::new(2)];
            answer.masks(&[], &mut masks);
            assert!(masks[0].allows(1) && !masks[0].allows(0), "{came}");
            assert_eq!(answer.forced(), [1]);
            answer.advance(&[1]);
        }
        let mut masks = [TokenMask::new(2)];
        answer.masks(&[], &mut masks);
        assert!(masks[0].is_empty() && answer.is_complete(), "it ends well");
    }
}
