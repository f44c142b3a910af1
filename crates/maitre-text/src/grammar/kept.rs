//! Compiled grammars that are kept, because many requests bring the same one. The one that was not asked for longest goes
//! first.

use std::sync::{Arc, Mutex, PoisonError};

use super::GrammarSpec;
use super::limits::{MAX_KEPT, MAX_KEPT_BYTES};
use super::matcher::Grammar;

/// The last asked for comes last.
#[derive(Default)]
pub(super) struct Kept {
    grammars: Mutex<Vec<(GrammarSpec, Arc<Grammar>)>>,
}

impl Kept {
    pub(super) fn get(&self, spec: &GrammarSpec) -> Option<Arc<Grammar>> {
        let mut grammars = self.grammars.lock().unwrap_or_else(PoisonError::into_inner);
        let place = grammars.iter().position(|(kept, _)| kept == spec)?;
        let found = grammars.remove(place);
        let grammar = Arc::clone(&found.1);
        grammars.push(found);
        Some(grammar)
    }

    pub(super) fn keep(&self, spec: &GrammarSpec, grammar: &Arc<Grammar>) {
        let bytes = |it: &GrammarSpec| it.size_in_bytes();
        if bytes(spec) > MAX_KEPT_BYTES / 4 {
            return;
        }
        let mut grammars = self.grammars.lock().unwrap_or_else(PoisonError::into_inner);
        grammars.retain(|(kept, _)| kept != spec);
        grammars.push((spec.clone(), Arc::clone(grammar)));
        let mut total: usize = grammars.iter().map(|(kept, _)| bytes(kept)).sum();
        while grammars.len() > MAX_KEPT || total > MAX_KEPT_BYTES {
            let (oldest, _) = grammars.remove(0);
            total -= bytes(&oldest);
        }
    }
}

#[cfg(test)]
mod tests {
    use llguidance::Matcher;

    use super::*;

    #[test]
    fn the_one_not_asked_for_longest_goes_first() {
        let kept = Kept::default();
        let spec = |number: usize| GrammarSpec::Regex(format!("a{{{number}}}"));
        let grammar = || {
            let matcher = Matcher::new(Err(anyhow::anyhow!("none")));
            Grammar::new(matcher, "regex", Arc::new([]))
        };
        for number in 0..MAX_KEPT {
            kept.keep(&spec(number), &grammar());
        }
        assert!(kept.get(&spec(0)).is_some());
        kept.keep(&spec(MAX_KEPT), &grammar());
        assert!(kept.get(&spec(0)).is_some() && kept.get(&spec(1)).is_none());
        // What is large takes the place of many, and what is too large of none.
        let large = |of: char, bytes| GrammarSpec::Regex(of.to_string().repeat(bytes));
        for of in ['a', 'b', 'c', 'd', 'e'] {
            kept.keep(&large(of, MAX_KEPT_BYTES / 4), &grammar());
        }
        kept.keep(&large('f', MAX_KEPT_BYTES / 4 + 1), &grammar());
        let held =
            ['a', 'b', 'e', 'f'].map(|of| kept.get(&large(of, MAX_KEPT_BYTES / 4)).is_some());
        assert_eq!(held, [false, true, true, false]);
        assert!(kept.get(&spec(0)).is_none());
    }
}
