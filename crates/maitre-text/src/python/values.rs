//! Python's types that minijinja does not have, or not with Python's meaning: lists, tuples, dicts and
//! their views, ranges, generators, namespaces, methods as values.
//!
//! minijinja's own values stand for `None`, `bool`, `int` (128 bits), `float`, `str`, `Markup` (a safe
//! string) and `Undefined`. Containers know how deep they are nested and refuse to be deeper than
//! [`MAX_DEPTH`], because whatever walks or drops them recurses.

mod namespace;

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use minijinja::value::{Enumerator, Object, ObjectRepr, ValueKind};
use minijinja::{Error, Value};

pub(crate) use namespace::Namespace;

use super::fail;

/// Containers are not nested deeper.
const MAX_DEPTH: usize = 200;

/// A value by its Python type.
pub(crate) enum View<'a> {
    Undefined,
    None,
    Bool(bool),
    Int(i128),
    Float(f64),
    Str(&'a str),
    List(&'a Sequence),
    Tuple(&'a Sequence),
    Dict(&'a Dict),
    Entries(&'a DictView),
    Range(&'a Range),
    Generator(&'a Generator),
    Namespace(&'a Namespace),
    /// Functions, macros, methods, loops.
    Other,
}

pub(crate) fn view(value: &Value) -> View<'_> {
    match value.kind() {
        ValueKind::Undefined => View::Undefined,
        ValueKind::None => View::None,
        ValueKind::Bool => View::Bool(value.is_true()),
        ValueKind::Number if value.is_integer() => {
            i128::try_from(value.clone()).map_or(View::Other, View::Int)
        }
        ValueKind::Number => View::Float(f64::try_from(value.clone()).unwrap_or(f64::NAN)),
        ValueKind::String => View::Str(value.as_str().unwrap_or_default()),
        _ => object_view(value),
    }
}

fn object_view(value: &Value) -> View<'_> {
    if let Some(sequence) = value.downcast_object_ref::<Sequence>() {
        return match sequence.kind {
            SequenceKind::List => View::List(sequence),
            SequenceKind::Tuple | SequenceKind::Group => View::Tuple(sequence),
        };
    }
    if let Some(dict) = value.downcast_object_ref() {
        return View::Dict(dict);
    }
    if let Some(view) = value.downcast_object_ref() {
        return View::Entries(view);
    }
    if let Some(range) = value.downcast_object_ref() {
        return View::Range(range);
    }
    if let Some(generator) = value.downcast_object_ref() {
        return View::Generator(generator);
    }
    value
        .downcast_object_ref()
        .map_or(View::Other, View::Namespace)
}

/// The name of a value's Python type.
pub(crate) fn type_name(value: &Value) -> &'static str {
    match view(value) {
        View::Undefined => "Undefined",
        View::None => "NoneType",
        View::Bool(_) => "bool",
        View::Int(_) => "int",
        View::Float(_) => "float",
        View::Str(_) if value.is_safe() => "Markup",
        View::Str(_) => "str",
        View::List(_) => "list",
        View::Tuple(_) => "tuple",
        View::Dict(_) => "dict",
        View::Entries(view) => match view.kind {
            DictViewKind::Keys => "dict_keys",
            DictViewKind::Values => "dict_values",
            DictViewKind::Items => "dict_items",
        },
        View::Range(_) => "range",
        View::Generator(_) => "generator",
        View::Namespace(_) => "Namespace",
        View::Other => "function",
    }
}

/// How deep a value is nested, and whether a namespace is in it.
#[derive(Debug, Clone, Copy, Default)]
struct Shape {
    depth: usize,
    namespace: bool,
}

impl Shape {
    /// The shape of a container of `values`.
    fn around<'a>(values: impl IntoIterator<Item = &'a Value>) -> Result<Self, Error> {
        let mut shape = Self::default();
        for inner in values.into_iter().map(Self::of) {
            shape.depth = shape.depth.max(inner.depth);
            shape.namespace |= inner.namespace;
        }
        shape.depth += 1;
        if shape.depth > MAX_DEPTH {
            return Err(fail(format!(
                "a value is nested more than {MAX_DEPTH} deep"
            )));
        }
        Ok(shape)
    }

    fn of(value: &Value) -> Self {
        match view(value) {
            View::List(sequence) | View::Tuple(sequence) => sequence.shape,
            View::Dict(dict) => dict.shape,
            View::Entries(view) => Self::of(&view.dict),
            View::Generator(generator) => generator.shape,
            View::Namespace(_) => Self {
                depth: 1,
                namespace: true,
            },
            View::Other => value
                .downcast_object_ref::<super::call::Method>()
                .map(|method| Self::of(&method.receiver))
                .or_else(|| {
                    value
                        .downcast_object_ref::<super::call::Cycler>()
                        .map(|cycler| Self::of(&cycler.items))
                })
                .unwrap_or_default(),
            _ => Self::default(),
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SequenceKind {
    List,
    Tuple,
    /// A tuple with names, as `groupby` makes them.
    Group,
}

/// A list or a tuple.
#[derive(Debug)]
pub(crate) struct Sequence {
    pub(crate) kind: SequenceKind,
    pub(crate) items: Vec<Value>,
    shape: Shape,
}

impl Object for Sequence {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Seq
    }

    fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
        self.items.get(key.as_usize()?).cloned()
    }

    fn enumerate(self: &Arc<Self>) -> Enumerator {
        Enumerator::Seq(self.items.len())
    }

    fn is_true(self: &Arc<Self>) -> bool {
        !self.items.is_empty()
    }
}

pub(crate) fn list(items: Vec<Value>) -> Result<Value, Error> {
    sequence(SequenceKind::List, items)
}

pub(crate) fn tuple(items: Vec<Value>) -> Result<Value, Error> {
    sequence(SequenceKind::Tuple, items)
}

pub(crate) fn sequence(kind: SequenceKind, items: Vec<Value>) -> Result<Value, Error> {
    let shape = Shape::around(&items)?;
    Ok(Value::from_object(Sequence { kind, items, shape }))
}

/// What a dict finds its entries by. `1`, `1.0` and `true` are one key, as in Python.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Key {
    Undefined,
    None,
    Int(i128),
    /// Length, start, step, as far as they matter.
    Range(u128, i128, i128),
    /// The bits of a float that is no integer.
    Float(u64),
    Str(Arc<str>),
    Tuple(Vec<Key>),
    /// Where a generator lies: it is equal to itself alone.
    Generator(usize),
}

/// A tuple that is a key has no more items, counting those of tuples inside it.
const MAX_KEY_ITEMS: usize = 64;

impl Key {
    pub(crate) fn of(value: &Value) -> Result<Self, Error> {
        Self::bounded(value, &mut 0)
    }

    fn bounded(value: &Value, items: &mut usize) -> Result<Self, Error> {
        *items += 1;
        if *items > MAX_KEY_ITEMS {
            return Err(super::unsupported("so long a tuple as a key"));
        }
        Ok(match view(value) {
            View::Undefined => Self::Undefined,
            View::None => Self::None,
            View::Range(range) => match range.len() {
                0 => Self::Range(0, 0, 0),
                1 => Self::Range(1, range.start, 0),
                length => Self::Range(length, range.start, range.step),
            },
            View::Bool(value) => Self::Int(i128::from(value)),
            View::Int(value) => Self::Int(value),
            View::Float(value) => {
                let whole = value as i128;
                if whole as f64 == value {
                    Self::Int(whole)
                } else {
                    Self::Float(value.to_bits())
                }
            }
            View::Str(_) => Self::Str(value.to_str().unwrap_or_default()),
            View::Generator(generator) => Self::Generator(std::ptr::from_ref(generator).addr()),
            View::Tuple(tuple) => {
                let keys = tuple.items.iter().map(|item| Self::bounded(item, items));
                Self::Tuple(keys.collect::<Result<_, _>>()?)
            }
            _ => return Err(fail(format!("unhashable type: '{}'", type_name(value)))),
        })
    }
}

/// A dict: entries in the order they were first set.
#[derive(Debug, Default)]
pub(crate) struct Dict {
    pub(crate) entries: Vec<(Value, Value)>,
    index: HashMap<Key, usize>,
    shape: Shape,
}

impl Dict {
    pub(crate) fn new(pairs: impl IntoIterator<Item = (Value, Value)>) -> Result<Self, Error> {
        let mut dict = Self::default();
        for (key, value) in pairs {
            match dict.index.entry(Key::of(&key)?) {
                std::collections::hash_map::Entry::Occupied(at) => {
                    if let Some(entry) = dict.entries.get_mut(*at.get()) {
                        entry.1 = value;
                    }
                }
                std::collections::hash_map::Entry::Vacant(at) => {
                    at.insert(dict.entries.len());
                    dict.entries.push((key, value));
                }
            }
        }
        dict.shape = Shape::around(dict.entries.iter().flat_map(|(key, value)| [key, value]))?;
        Ok(dict)
    }

    /// The value under a key; an error if the key cannot be one.
    pub(crate) fn get(&self, key: &Value) -> Result<Option<&Value>, Error> {
        let at = self.index.get(&Key::of(key)?);
        Ok(at
            .and_then(|&at| self.entries.get(at))
            .map(|(_, value)| value))
    }

    pub(crate) fn get_str(&self, key: &str) -> Option<&Value> {
        let at = self.index.get(&Key::Str(Arc::from(key)));
        at.and_then(|&at| self.entries.get(at))
            .map(|(_, value)| value)
    }
}

impl Object for Dict {
    fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
        self.get(key).ok().flatten().cloned()
    }

    fn enumerate(self: &Arc<Self>) -> Enumerator {
        Enumerator::Values(self.entries.iter().map(|(key, _)| key.clone()).collect())
    }

    fn is_true(self: &Arc<Self>) -> bool {
        !self.entries.is_empty()
    }
}

pub(crate) fn dict(pairs: impl IntoIterator<Item = (Value, Value)>) -> Result<Value, Error> {
    Dict::new(pairs).map(Value::from_object)
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum DictViewKind {
    Keys,
    Values,
    Items,
}

/// `d.keys()`, `d.values()`, `d.items()`.
#[derive(Debug)]
pub(crate) struct DictView {
    pub(crate) kind: DictViewKind,
    pub(crate) dict: Value,
}

impl DictView {
    pub(crate) fn len(&self) -> usize {
        match view(&self.dict) {
            View::Dict(dict) => dict.entries.len(),
            _ => 0,
        }
    }

    pub(crate) fn items(&self) -> Result<Vec<Value>, Error> {
        let View::Dict(dict) = view(&self.dict) else {
            return Ok(Vec::new());
        };
        let entries = dict.entries.iter();
        match self.kind {
            DictViewKind::Keys => Ok(entries.map(|(key, _)| key.clone()).collect()),
            DictViewKind::Values => Ok(entries.map(|(_, value)| value.clone()).collect()),
            DictViewKind::Items => entries
                .map(|(key, value)| tuple(vec![key.clone(), value.clone()]))
                .collect(),
        }
    }
}

impl Object for DictView {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Plain
    }

    fn is_true(self: &Arc<Self>) -> bool {
        self.len() > 0
    }
}

/// `range(…)`, at most as long as Jinja2's sandbox allows.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Range {
    pub(crate) start: i128,
    pub(crate) stop: i128,
    pub(crate) step: i128,
}

impl Range {
    pub(crate) fn len(&self) -> u128 {
        let distance = if self.step > 0 {
            self.stop.checked_sub(self.start)
        } else {
            self.start.checked_sub(self.stop)
        };
        let distance = distance.unwrap_or(i128::MAX);
        if distance <= 0 {
            return 0;
        }
        (distance.unsigned_abs() - 1) / self.step.unsigned_abs() + 1
    }

    pub(crate) fn get(&self, index: usize) -> i128 {
        self.start + self.step * index as i128
    }
}

impl Object for Range {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Plain
    }

    fn is_true(self: &Arc<Self>) -> bool {
        self.len() > 0
    }
}

/// What a filter that yields returns in Python: it can be walked once, and is true even when empty.
pub(crate) struct Generator {
    items: Mutex<std::vec::IntoIter<Value>>,
    shape: Shape,
    /// Named when a template prints the generator, which cannot give Python's address.
    pub(crate) source: &'static str,
}

impl fmt::Debug for Generator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "<generator object {}>", self.source)
    }
}

impl Generator {
    pub(crate) fn take_all(&self) -> Vec<Value> {
        let mut items = self.items.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::take(&mut *items).collect()
    }

    pub(crate) fn next(&self) -> Option<Value> {
        let mut items = self.items.lock().unwrap_or_else(PoisonError::into_inner);
        items.next()
    }
}

impl Object for Generator {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Plain
    }

    fn is_true(self: &Arc<Self>) -> bool {
        true
    }
}

pub(crate) fn generator(source: &'static str, items: Vec<Value>) -> Result<Value, Error> {
    let shape = Shape::around(&items)?;
    Ok(Value::from_object(Generator {
        items: Mutex::new(items.into_iter()),
        shape,
        source,
    }))
}

/// A JSON value as `json.loads` gives it.
pub(crate) fn from_json(value: &serde_json::Value) -> Result<Value, Error> {
    match value {
        serde_json::Value::Null => Ok(Value::from(())),
        serde_json::Value::Bool(value) => Ok(Value::from(*value)),
        serde_json::Value::Number(number) => Ok(number
            .as_i64()
            .map(Value::from)
            .or_else(|| number.as_u64().map(Value::from))
            .unwrap_or_else(|| Value::from(number.as_f64().unwrap_or(f64::NAN)))),
        serde_json::Value::String(text) => Ok(Value::from(text.as_str())),
        serde_json::Value::Array(items) => {
            list(items.iter().map(from_json).collect::<Result<_, _>>()?)
        }
        serde_json::Value::Object(fields) => {
            let pairs: Result<Vec<_>, Error> = fields
                .iter()
                .map(|(key, value)| Ok((Value::from(key.as_str()), from_json(value)?)))
                .collect();
            dict(pairs?)
        }
    }
}
