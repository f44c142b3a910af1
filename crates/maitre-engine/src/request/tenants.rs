//! A tenant as the scheduler knows it: a number, a share, and a namespace of prefixes.

use std::collections::HashMap;

use maitre_scheduler::{HashKey, Namespace, TenantId};

/// Turns tenants' names into what the scheduler works with. It stores no names, so any number of them
/// takes no memory.
#[derive(Debug)]
pub(crate) struct Tenants {
    key: HashKey,
    weights: HashMap<String, u32>,
}

impl Tenants {
    pub(crate) fn new(key: HashKey, weights: HashMap<String, u32>) -> Self {
        Self { key, weights }
    }

    /// The tenant's account: a keyed hash of the name, so that a client cannot pick a name that shares another's.
    pub(crate) fn id(&self, tenant: &str) -> TenantId {
        let hash = Namespace::new(&self.key, &[b"account", tenant.as_bytes()]);
        TenantId(hash.root().0 as u64)
    }

    /// The tenant's share relative to others'.
    pub(crate) fn weight(&self, tenant: &str) -> u32 {
        self.weights.get(tenant).copied().unwrap_or(1)
    }

    /// The namespace in which a request finds prefixes and leaves its own.
    pub(crate) fn namespace(&self, tenant: &str, salt: &str) -> Namespace {
        Namespace::new(&self.key, &[b"prefix", tenant.as_bytes(), salt.as_bytes()])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tenants_and_salts_are_apart() {
        let tenants = Tenants::new(HashKey::default(), HashMap::from([("a".into(), 3)]));
        assert_eq!((tenants.weight("a"), tenants.weight("b")), (3, 1));
        assert_ne!(tenants.id("a"), tenants.id("b"));
        let of = |tenant, salt| tenants.namespace(tenant, salt);
        assert_eq!(of("a", "s"), of("a", "s"));
        assert_ne!(of("a", "s"), of("b", "s"));
        assert_ne!(of("a", "s"), of("a", ""));
        assert_ne!(of("ab", "c"), of("a", "bc"));
    }
}
