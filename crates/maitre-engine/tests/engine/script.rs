//! A constraint that lets one text pass and no other, whatever the model would say: an answer by the book.

use maitre_engine::{Constraint, ConstraintHandle, ConstraintSource, TokenMask};

use crate::toy::tokenizer;

/// An answer that says `text`, in which marks such as `<think>` are control tokens.
pub(crate) fn says(text: &str) -> ConstraintHandle {
    ConstraintHandle::new(Script {
        ids: tokenizer().encode(text).unwrap(),
        came: 0,
    })
}

#[derive(Debug, Clone)]
struct Script {
    ids: Vec<u32>,
    came: usize,
}

impl ConstraintSource for Script {
    fn start(&self) -> Box<dyn Constraint> {
        Box::new(self.clone())
    }
}

impl Constraint for Script {
    fn masks(&mut self, drafts: &[u32], masks: &mut [TokenMask]) {
        for (index, mask) in masks.iter_mut().enumerate() {
            let next = self.ids.get(self.came + index);
            if let Some(&next) = next {
                mask.allow(next);
            }
            if next != drafts.get(index) {
                return;
            }
        }
    }

    fn advance(&mut self, tokens: &[u32]) {
        self.came += tokens.len();
    }

    fn forced(&self) -> Vec<u32> {
        self.ids.get(self.came..).unwrap_or_default().to_vec()
    }

    fn is_complete(&self) -> bool {
        self.came == self.ids.len()
    }
}
