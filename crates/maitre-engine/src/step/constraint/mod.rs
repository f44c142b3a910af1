//! Constraints between the step loop and the threads that run them.
//!
//! The loop never waits for a constraint. When a step is committed it tells the sequence's constraint which tokens
//! came, and asks what may follow; a [thread](threads) finds out while the next step is planned and computed. When that
//! step samples, either the answer is there or the sequence's sample is not taken: the span is planned again.
//!
//! ```text
//! step loop   commit n ──┬─ plan, draft n + 1 ─ submit ─ forward ............ sample with the masks
//!                        │                      └ look at other drafts ┐      ↑
//! thread                 └─ advance, forced, masks ────────────────────┴ masks┘
//! ```
//!
//! Drafts need masks too. So with the tokens goes a guess at the next ones from the sequence's own text; the answer says
//! how much of it is allowed, or what has to come. If the answer is there when the step drafts, that is what may be
//! drafted. Often it is not, as little time passes between a commit and the next plan. Then what is left of the answer
//! before is used: if the tokens that came are the first ones it was about, its other masks hold. So tokens that have to
//! come are drafted one step later. What a draft model adds is looked at behind the forward, and if that is late, only
//! the first row is used.

mod mailbox;
mod threads;

use std::sync::{Arc, OnceLock};

use maitre_speculative::{Allowed, Drafted};

use crate::request::constraint::ConstraintHandle;
use crate::step::constraint::mailbox::{Answer, Ask, Mailbox};
pub(crate) use crate::step::constraint::threads::ConstraintThreads;

/// What the step loop has of a sequence's constraint.
#[derive(Debug)]
pub(crate) struct Constrained {
    mailbox: Arc<Mailbox>,
    threads: Arc<ConstraintThreads>,
    /// What may come behind the sequence as it is, once that is known.
    next: OnceLock<Answer>,
    /// What may come behind the drafts of the step at hand, where `next` does not say.
    behind_drafts: OnceLock<Answer>,
}

/// What a constraint says of a span that samples.
#[derive(Debug)]
pub(crate) enum Verdict<'a> {
    /// Nothing yet.
    Late,
    /// These tokens may come.
    Allowed(Allowed<'a>),
    /// The sequence is complete, and nothing may follow.
    Complete,
    /// It lets the answer neither go on nor end, for this reason.
    Stuck(String),
    /// It could not be asked, for this reason.
    Failed(String),
}

impl Constrained {
    /// The constraint of a sequence that has no token yet. Nothing happens before [`advance`](Self::advance).
    pub(crate) fn new(
        source: ConstraintHandle,
        threads: Arc<ConstraintThreads>,
        vocab_size: usize,
    ) -> Self {
        Self {
            mailbox: Arc::new(Mailbox::new(source, vocab_size)),
            threads,
            next: OnceLock::new(),
            behind_drafts: OnceLock::new(),
        }
    }

    /// The sequence goes on with `tokens`, none at its start: asks what may follow, and how much of `guess`. At most
    /// `most` tokens that have to come are asked for.
    pub(crate) fn advance(&mut self, tokens: &[u32], guess: Vec<u32>, most: usize) {
        let mut spare = Vec::new();
        let mut left = None;
        // The newest answer says most.
        let (newest, _) = self.mailbox.take_answers();
        let answers = [newest, self.next.take(), self.behind_drafts.take()];
        for mut answer in answers.into_iter().flatten().flatten() {
            match left {
                None if answer.skip(tokens, &mut spare) => left = Some(answer),
                _ => spare.append(&mut answer.masks),
            }
        }
        let ask = Ask {
            tokens: tokens.to_vec(),
            drafts: guess,
            most_forced: most,
            spare,
        };
        self.threads.ask(&self.mailbox, |inbox| inbox.ask_next(ask));
        if let Some(left) = left {
            self.next = OnceLock::from(Ok(left));
        }
    }

    /// Takes the newest answer, if it has come. From here to the commit all see the same.
    pub(crate) fn refresh(&mut self) {
        if let (Some(newest), _) = self.mailbox.take_answers() {
            self.next = OnceLock::from(newest);
        }
    }

    /// Asks what may come behind `drafts`, unless that is known. Of a step that is submitted.
    pub(crate) fn look(&mut self, drafts: &[Drafted]) {
        self.behind_drafts.take();
        let tokens: Vec<u32> = drafts.iter().map(|draft| draft.token).collect();
        let is_known = match self.next.get() {
            Some(Ok(next)) => next.drafts.starts_with(&tokens),
            _ => true,
        };
        if is_known {
            return;
        }
        let ask = Ask {
            drafts: tokens,
            ..Ask::default()
        };
        self.threads.ask(&self.mailbox, |inbox| inbox.look(ask));
    }

    /// What may be drafted: nothing, if it is not known.
    pub(crate) fn for_drafts(&self) -> Allowed<'_> {
        self.fetch();
        match self.next.get() {
            Some(Ok(next)) if next.goes_on() => next.allowed(),
            _ => Allowed::default(),
        }
    }

    /// What may come of a span with these drafts, which is about to be sampled from.
    pub(crate) fn verdict(&self, drafts: &[Drafted]) -> Verdict<'_> {
        self.fetch();
        let next = match self.next.get() {
            None => return Verdict::Late,
            Some(Err(message)) => return Verdict::Failed(message.clone()),
            Some(Ok(next)) => next,
        };
        if !next.goes_on() && next.is_complete {
            return Verdict::Complete;
        }
        if !next.goes_on() {
            let message = "the constraint allows no token here, and says that the answer is not complete; expected at \
                           least one token, or a complete answer";
            let failure = next.failure.clone();
            return Verdict::Stuck(failure.unwrap_or_else(|| message.to_owned()));
        }
        let are = |known: &[u32]| drafts.iter().map(|it| it.token).eq(known.iter().copied());
        let known = next.drafts.get(..drafts.len());
        if known.is_some_and(are) {
            return Verdict::Allowed(next.allowed());
        }
        if let Some(Ok(behind)) = self.behind_drafts.get()
            && are(&behind.asked)
        {
            return Verdict::Allowed(behind.allowed());
        }
        // Nothing is known of the rows behind drafts: they are not used.
        Verdict::Allowed(Allowed {
            masks: next.masks.get(..1).unwrap_or_default(),
            ..Allowed::default()
        })
    }

    /// Whether it is known by now what may follow.
    pub(crate) fn is_late(&self) -> bool {
        self.fetch();
        self.next.get().is_none()
    }

    /// Takes the answers that have come.
    fn fetch(&self) {
        let (next, behind_drafts) = self.mailbox.take_answers();
        // What is there already stays: the attempts at one step all see the same.
        next.into_iter().for_each(|it| drop(self.next.set(it)));
        let behind = behind_drafts.into_iter();
        behind.for_each(|it| drop(self.behind_drafts.set(it)));
    }
}
