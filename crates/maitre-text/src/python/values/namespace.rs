//! `namespace(…)`.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use minijinja::value::{Object, ObjectRepr};
use minijinja::{Error, Value};

use super::{Key, Shape};
use crate::python::{fail, unsupported};

/// `namespace(…)`: attributes that a template can set from inside its loops.
#[derive(Debug, Default)]
pub(crate) struct Namespace {
    attributes: Mutex<Attributes>,
}

#[derive(Debug, Default)]
struct Attributes {
    entries: Vec<(Value, Value)>,
    index: HashMap<Key, usize>,
}

impl Namespace {
    pub(crate) fn new(entries: Vec<(Value, Value)>) -> Result<Self, Error> {
        let namespace = Self::default();
        for (key, value) in entries {
            namespace.set(key, value)?;
        }
        Ok(namespace)
    }

    fn attributes(&self) -> MutexGuard<'_, Attributes> {
        self.attributes
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// A namespace inside a namespace could be inside itself, which is never freed.
    pub(crate) fn set(&self, key: Value, value: Value) -> Result<(), Error> {
        if key.as_str().is_some_and(|name| name.starts_with('_')) {
            return Err(fail(format!(
                "a namespace cannot store attributes that start with an underscore, such as {key}"
            )));
        }
        if Shape::of(&value).namespace {
            return Err(unsupported("a namespace inside a namespace"));
        }
        let index = Key::of(&key)?;
        let mut attributes = self.attributes();
        let next = attributes.entries.len();
        let at = *attributes.index.entry(index).or_insert(next);
        match attributes.entries.get_mut(at) {
            Some(entry) => entry.1 = value,
            None => attributes.entries.push((key, value)),
        }
        Ok(())
    }

    pub(crate) fn get(&self, name: &str) -> Option<Value> {
        let attributes = self.attributes();
        let at = *attributes.index.get(&Key::Str(Arc::from(name)))?;
        attributes.entries.get(at).map(|(_, value)| value.clone())
    }

    pub(crate) fn entries(&self) -> Vec<(Value, Value)> {
        self.attributes().entries.clone()
    }
}

impl Object for Namespace {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Plain
    }

    fn is_true(self: &Arc<Self>) -> bool {
        true
    }
}
