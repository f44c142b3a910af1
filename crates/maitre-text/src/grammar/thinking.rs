//! A budget of tokens for a thought: when it is spent, all that may come is the mark that ends the thought.
//!
//! ```text
//! before ── opening mark ──► thinking ── budget spent ──► closing ── its last token ──► before
//!    └── something else ──► after   └──── closing mark, by the model itself ─────────────┘
//! ```
//! Another constraint may hold beside it: it sees every token and has to allow it, too.

use std::sync::Arc;

use maitre_sampling::{Constraint, ConstraintSource, TokenMask};

use super::reasoning::ReasoningEnd;
use crate::{ReasoningFormat, Thought, Tokenizer};

/// How long the model may think.
#[derive(Debug, Clone)]
pub struct ThinkingBudget {
    open: ReasoningEnd,
    end: ReasoningEnd,
    /// What ends the thought in the model's stead.
    close: Arc<[u32]>,
    thought: Thought,
    tokens: u32,
    beside: Option<Arc<dyn ConstraintSource>>,
}

impl ThinkingBudget {
    /// At most `tokens` in a thought of this format, where the prompt leaves off at `thought`; `beside` holds as well.
    /// `None` if the tokenizer does not know the marks.
    #[must_use]
    pub fn new(
        tokenizer: &Tokenizer,
        vocab_size: usize,
        (format, thought): (&ReasoningFormat, Thought),
        tokens: u32,
        beside: Option<Arc<dyn ConstraintSource>>,
    ) -> Option<Self> {
        let mark = |text: &str| ReasoningEnd::new(tokenizer, vocab_size, &[], text.trim());
        // Without what a tokenizer puts before every text.
        let before = tokenizer.encode("").unwrap_or_default().len();
        let close = tokenizer.encode(format.forced_close).ok()?;
        let close = close.get(before..).filter(|ids| !ids.is_empty())?;
        Some(Self {
            open: mark(format.open)?,
            end: mark(format.close)?,
            close: close.into(),
            thought,
            tokens,
            beside,
        })
    }
}

impl ConstraintSource for ThinkingBudget {
    fn start(&self) -> Box<dyn Constraint> {
        Box::new(Answer {
            place: match self.thought {
                Thought::Unopened => Place::Before {
                    matched: 0,
                    left: self.tokens,
                },
                Thought::Open => self.thinking(0, self.tokens),
                Thought::Closed => Place::After,
            },
            beside: self.beside.as_ref().map(|source| source.start()),
            budget: self.clone(),
        })
    }
}

/// How far an answer is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    /// A thought may begin, one that goes on after an earlier one included.
    Before {
        matched: usize,
        left: u32,
    },
    Thinking {
        matched: usize,
        left: u32,
    },
    Closing {
        done: usize,
    },
    After,
}

impl ThinkingBudget {
    fn thinking(&self, matched: usize, left: u32) -> Place {
        match left {
            0 => Place::Closing { done: 0 },
            left => Place::Thinking { matched, left },
        }
    }

    /// Where an answer is behind `token`.
    fn behind(&self, place: Place, token: u32) -> Place {
        match place {
            Place::Before { matched, left } => match self.open.next(matched, token) {
                (_, Some(_)) => self.thinking(0, left),
                (matched, None) if matched > 0 || self.open.is_blank(token) => {
                    Place::Before { matched, left }
                }
                (_, None) => Place::After,
            },
            Place::Thinking { matched, left } => match self.end.next(matched, token) {
                (_, Some(_)) => Place::Before { matched: 0, left },
                (matched, None) => self.thinking(matched, left - 1),
            },
            Place::Closing { done } => match self.close.get(done) == Some(&token) {
                true if done + 1 < self.close.len() => Place::Closing { done: done + 1 },
                true => Place::Before {
                    matched: 0,
                    left: 0,
                },
                false => Place::After,
            },
            Place::After => Place::After,
        }
    }
}

struct Answer {
    place: Place,
    beside: Option<Box<dyn Constraint>>,
    budget: ThinkingBudget,
}

impl Constraint for Answer {
    fn masks(&mut self, drafts: &[u32], masks: &mut [TokenMask]) {
        match &mut self.beside {
            Some(beside) => beside.masks(drafts, masks),
            None => masks
                .iter_mut()
                .for_each(|mask| self.budget.end.allow_all(mask)),
        }
        let mut place = self.place;
        for (index, mask) in masks.iter_mut().enumerate() {
            if let Place::Closing { done } = place
                && let Some(&next) = self.budget.close.get(done)
                && mask.allows(next)
            {
                mask.clear();
                mask.allow(next);
            }
            let Some(&draft) = drafts.get(index).filter(|&&it| mask.allows(it)) else {
                return;
            };
            place = self.budget.behind(place, draft);
        }
    }

    fn advance(&mut self, tokens: &[u32]) {
        for &token in tokens {
            self.place = self.budget.behind(self.place, token);
        }
        if let Some(beside) = &mut self.beside {
            beside.advance(tokens);
        }
    }

    fn forced(&self) -> Vec<u32> {
        match (self.place, &self.beside) {
            (Place::After, Some(beside)) => beside.forced(),
            (Place::Closing { done }, None) => {
                self.budget.close.get(done..).unwrap_or_default().to_vec()
            }
            _ => Vec::new(),
        }
    }

    fn is_complete(&self) -> bool {
        self.beside.as_ref().is_none_or(|it| it.is_complete())
    }

    fn failure(&self) -> Option<String> {
        self.beside.as_ref().and_then(|it| it.failure())
    }
}
