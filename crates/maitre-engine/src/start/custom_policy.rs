//! A scheduling policy that the program which embeds the engine brings along.

use std::fmt;
use std::sync::Arc;

use maitre_scheduler::Policy;

/// A named policy, made anew for each engine.
#[derive(Clone)]
pub struct CustomPolicy {
    name: Arc<str>,
    make: Arc<dyn Fn() -> Box<dyn Policy> + Send + Sync>,
}

impl CustomPolicy {
    /// `make` makes a policy that has seen no request yet.
    pub fn new<P: Policy + 'static>(
        name: impl Into<Arc<str>>,
        make: impl Fn() -> P + Send + Sync + 'static,
    ) -> Self {
        Self {
            name: name.into(),
            make: Arc::new(move || Box::new(make())),
        }
    }

    /// What banners and `GetServerInfo` call it.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn build(&self) -> Box<dyn Policy> {
        (self.make)()
    }
}

impl fmt::Debug for CustomPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("CustomPolicy").field(&self.name).finish()
    }
}

/// The same maker, under the same name.
impl PartialEq for CustomPolicy {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name && Arc::ptr_eq(&self.make, &other.make)
    }
}
