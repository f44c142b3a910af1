//! The state of one answer under a grammar.
//!
//! The library's matcher goes on token by token and can be rolled back. Masks behind drafts are made by going on and
//! rolling back, so the state is afterwards what it was. If the library fails on the way, which it says by bounds of work
//! that are passed, the matcher is made anew from the tokens that came.
//!
//! Where bytes are forced, the library allows only the tokens that the tokenizer itself would write them with. So the mask
//! depends on the tokens so far alone, and an answer is the same whether its tokens were drafted or not.

use std::cell::RefCell;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use llguidance::Matcher;
use llguidance::toktrie::SimpleVob;
use maitre_sampling::{Constraint, ConstraintSource, TokenMask};

/// A compiled grammar.
pub(super) struct Grammar {
    /// At the start of an answer. Answers get copies that share nothing, so that none of them depends on others.
    start: Mutex<Matcher>,
    kind: &'static str,
    eos: Arc<[u32]>,
}

impl fmt::Debug for Grammar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Grammar").field("kind", &self.kind).finish()
    }
}

impl Grammar {
    pub(super) fn new(start: Matcher, kind: &'static str, eos: Arc<[u32]>) -> Arc<Self> {
        Arc::new(Self {
            start: Mutex::new(start),
            kind,
            eos,
        })
    }

    fn fresh(&self) -> Matcher {
        let start = self.start.lock().unwrap_or_else(PoisonError::into_inner);
        start.deep_clone()
    }
}

/// What a request holds: the same grammar for all its answers.
#[derive(Debug)]
pub(super) struct Source(pub(super) Arc<Grammar>);

impl ConstraintSource for Source {
    fn start(&self) -> Box<dyn Constraint> {
        Box::new(Answer {
            matcher: RefCell::new(self.0.fresh()),
            grammar: Arc::clone(&self.0),
            came: Vec::new(),
            has_ended: false,
            failure: None,
        })
    }
}

/// An answer so far.
struct Answer {
    /// What is forced is worked out by a state that remembers it, so asking changes it.
    matcher: RefCell<Matcher>,
    grammar: Arc<Grammar>,
    came: Vec<u32>,
    /// An end-of-sequence token came, and the request went on.
    has_ended: bool,
    failure: Option<String>,
}

/// What may come at one place.
enum Place {
    /// The mask says.
    Open,
    /// Nothing: the answer is complete.
    Complete,
    Failed(String),
}

impl Answer {
    /// Makes the mask of the place where `matcher` stands.
    fn fill(matcher: &mut Matcher, eos: &[u32], mask: &mut TokenMask) -> Place {
        if matcher.is_stopped() {
            return match matcher.stop_reason().is_ok() {
                true => Place::Complete,
                false => Place::Failed(failure_of(matcher)),
            };
        }
        match matcher.compute_mask() {
            Ok(allowed) => copy(&allowed, mask),
            Err(_) => return Place::Failed(failure_of(matcher)),
        }
        // Where nothing but the end may come, the answer ends without a token that says so.
        let ends = eos.iter().filter(|&&id| mask.allows(id)).count();
        if ends == mask.count() {
            mask.clear();
            return Place::Complete;
        }
        Place::Open
    }

    /// The matcher as it was before it failed.
    fn remake(&mut self) {
        let mut matcher = self.grammar.fresh();
        if matcher.consume_tokens(&self.came).is_err() {
            self.failure = Some(failure_of(&matcher));
        }
        self.matcher = RefCell::new(matcher);
    }
}

impl Constraint for Answer {
    fn masks(&mut self, drafts: &[u32], masks: &mut [TokenMask]) {
        if self.has_ended || self.failure.is_some() {
            return;
        }
        let eos = Arc::clone(&self.grammar.eos);
        let matcher = self.matcher.get_mut();
        let mut ahead = 0;
        let mut is_broken = false;
        for (index, mask) in masks.iter_mut().enumerate() {
            match Self::fill(matcher, &eos, mask) {
                Place::Open => {}
                Place::Complete => break,
                Place::Failed(why) => {
                    mask.clear();
                    is_broken = index > 0;
                    if index == 0 {
                        self.failure = Some(why);
                    }
                    break;
                }
            }
            let draft = drafts.get(index).copied();
            let Some(draft) = draft.filter(|it| mask.allows(*it) && !eos.contains(it)) else {
                break;
            };
            if matcher.consume_token(draft).is_err() {
                is_broken = true;
                break;
            }
            ahead += 1;
        }
        if is_broken || matcher.rollback(ahead).is_err() {
            self.remake();
        }
    }

    fn advance(&mut self, tokens: &[u32]) {
        let matcher = self.matcher.get_mut();
        for &token in tokens {
            if self.grammar.eos.contains(&token) {
                self.has_ended = true;
                return;
            }
            self.came.push(token);
            if matcher.consume_token(token).is_err() {
                self.failure = Some(failure_of(matcher));
                return;
            }
        }
    }

    fn forced(&self) -> Vec<u32> {
        let mut matcher = self.matcher.borrow_mut();
        if self.has_ended || self.failure.is_some() || matcher.is_stopped() {
            return Vec::new();
        }
        matcher.compute_ff_tokens()
    }

    fn is_complete(&self) -> bool {
        let mut matcher = self.matcher.borrow_mut();
        let mut may_end = || match matcher.is_stopped() {
            true => matcher.stop_reason().is_ok(),
            false => matcher.is_accepting().unwrap_or(false),
        };
        self.failure.is_none() && (self.has_ended || may_end())
    }

    fn failure(&self) -> Option<String> {
        self.failure.clone()
    }
}

/// Why a matcher failed, without what the library adds for itself.
fn failure_of(matcher: &Matcher) -> String {
    let why = matcher.get_error().unwrap_or_default();
    format!("the grammar can't go on: {}", in_short(&why))
}

/// What the library says in one line: its first, for others tell of its inner state, or what comes behind `error:`.
pub(super) fn in_short(message: &str) -> String {
    let lines = || message.lines().map(str::trim);
    let error = lines().find_map(|line| line.strip_prefix("error: "));
    let line = error.or(lines().next()).unwrap_or_default();
    match line {
        "" => "no reason was given".to_owned(),
        "NoExtensionBias" | "NoExtension" => "no text keeps to it".to_owned(),
        _ if line.chars().count() <= MOST_TOLD => line.to_owned(),
        _ => line.chars().take(MOST_TOLD).chain("...".chars()).collect(),
    }
}

/// Characters of a reason: the library may quote all of a grammar.
const MOST_TOLD: usize = 300;

/// The library has 32 tokens in a word, and a bit more than there are tokens.
fn copy(allowed: &SimpleVob, mask: &mut TokenMask) {
    let vocab_size = mask.vocab_size();
    let words = mask.words_mut();
    for (word, pair) in words.iter_mut().zip(allowed.as_slice().chunks(2)) {
        let low = pair.first().copied().unwrap_or_default();
        let high = pair.get(1).copied().unwrap_or_default();
        *word = u64::from(low) | u64::from(high) << 32;
    }
    let rest = vocab_size % 64;
    if let Some(last) = words.last_mut().filter(|_| rest > 0) {
        *last &= (1 << rest) - 1;
    }
}
