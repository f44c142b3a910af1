//! Who is told how far a start has loaded its weights. It takes minutes for large models, and what shows it (a bar, a
//! probe's text) is the embedding program's.

use std::fmt;
use std::sync::Arc;

use maitre_model::LoadProgress;

type Observer = dyn Fn(&str, LoadProgress) + Send + Sync;

/// Told the name of the model whose weights are loaded, and how many of them are.
#[derive(Clone)]
pub(crate) struct LoadObserver(Arc<Observer>);

impl LoadObserver {
    pub(crate) fn new(observer: impl Fn(&str, LoadProgress) + Send + Sync + 'static) -> Self {
        Self(Arc::new(observer))
    }

    /// What a load of the model of this name tells.
    pub(crate) fn of<'a>(&'a self, model: &'a str) -> impl Fn(LoadProgress) + 'a {
        move |progress| (self.0)(model, progress)
    }
}

impl Default for LoadObserver {
    fn default() -> Self {
        Self::new(|_, _| {})
    }
}

impl fmt::Debug for LoadObserver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("LoadObserver")
    }
}
