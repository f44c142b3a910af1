//! Forks that wait for the prompt they share (parallel sampling).
//!
//! A fork costs nearly nothing once its parent's prompt is computed, so until then it is not in the queue:
//! there it would block the requests behind it. If the parent leaves early, its forks enter the queue like
//! other requests.

use std::collections::{BTreeMap, BTreeSet};

use crate::request::Place;

/// Per parent, the forks that wait for its prompt. A parent is live, and no chain of parents is a circle,
/// since a parent was there before its forks.
#[derive(Debug, Clone, Default)]
pub(crate) struct Forks(BTreeMap<Place, BTreeSet<Place>>);

impl Forks {
    /// Whether none waits.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn park(&mut self, parent: Place, fork: Place) {
        self.0.entry(parent).or_default().insert(fork);
    }

    /// Takes a fork that leaves before its turn, and returns whether it was here.
    pub(crate) fn unpark(&mut self, parent: Place, fork: Place) -> bool {
        let Some(forks) = self.0.get_mut(&parent) else {
            return false;
        };
        let parked = forks.remove(&fork);
        if forks.is_empty() {
            self.0.remove(&parent);
        }
        parked
    }

    /// Takes all forks of `parent`, first come first.
    pub(crate) fn take(&mut self, parent: Place) -> BTreeSet<Place> {
        self.0.remove(&parent).unwrap_or_default()
    }

    /// Every parent with its forks.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&Place, &BTreeSet<Place>)> {
        self.0.iter()
    }
}
