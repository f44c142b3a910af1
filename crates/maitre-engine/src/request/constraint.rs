//! What constrains the answers of a request.

use std::ops::Deref;
use std::sync::Arc;

use maitre_sampling::ConstraintSource;

/// What a request's answers have to be like. It is shared by all of them, and makes a
/// [`Constraint`](maitre_sampling::Constraint) for each. Two handles are equal if they are to the same source.
#[derive(Debug, Clone)]
pub struct ConstraintHandle(Arc<dyn ConstraintSource>);

impl ConstraintHandle {
    /// A handle to `source`.
    #[must_use]
    pub fn new(source: impl ConstraintSource + 'static) -> Self {
        Self(Arc::new(source))
    }
}

impl ConstraintHandle {
    /// The source.
    #[cfg(feature = "grammar")]
    pub(crate) fn source(&self) -> Arc<dyn ConstraintSource> {
        Arc::clone(&self.0)
    }
}

impl From<Arc<dyn ConstraintSource>> for ConstraintHandle {
    fn from(source: Arc<dyn ConstraintSource>) -> Self {
        Self(source)
    }
}

impl Deref for ConstraintHandle {
    type Target = dyn ConstraintSource;

    fn deref(&self) -> &Self::Target {
        &*self.0
    }
}

impl PartialEq for ConstraintHandle {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}
