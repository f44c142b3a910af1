//! Filters that compare items.

use std::cmp::Ordering;
use std::collections::HashSet;

use minijinja::{Error, Value};

use super::numbers::given;
use super::{AttributeGetter, ignore_case};
use crate::python::arguments::{Arguments, flag, text};
use crate::python::budget::Context;
use crate::python::compare::{equal, order, sorted_by};
use crate::python::fail;
use crate::python::items::iterate;
use crate::python::values::{
    Key, SequenceKind, View, generator, list, sequence, tuple, type_name, view,
};

pub(super) fn apply(
    context: &Context<'_, '_, '_>,
    name: &str,
    value: &Value,
    arguments: &Arguments,
) -> Result<Value, Error> {
    match name {
        "sort" => sort(context, value, arguments),
        "dictsort" => dictsort(context, value, arguments),
        "groupby" => groupby(context, value, arguments),
        _ => {
            let names = ["case_sensitive", "attribute"];
            let [case_sensitive, attribute] = arguments.bind(name, names, 0)?;
            let getter = AttributeGetter::new(given(&attribute));
            let case_sensitive = flag(&case_sensitive, false);
            let key = |item: &Value| {
                let found = getter.get(context, item, None)?;
                folded(context, found, case_sensitive)
            };
            let items = iterate(context, value)?;
            if name == "unique" {
                unique(context, items, key)
            } else {
                extreme(context, name, items, key)
            }
        }
    }
}

fn folded(
    context: &Context<'_, '_, '_>,
    value: Value,
    case_sensitive: bool,
) -> Result<Value, Error> {
    if case_sensitive {
        Ok(value)
    } else {
        ignore_case(context, value)
    }
}

fn sort(
    context: &Context<'_, '_, '_>,
    value: &Value,
    arguments: &Arguments,
) -> Result<Value, Error> {
    let names = ["reverse", "case_sensitive", "attribute"];
    let [reverse, case_sensitive, attribute] = arguments.bind("sort", names, 0)?;
    let getters = AttributeGetter::several(given(&attribute));
    let case_sensitive = flag(&case_sensitive, false);
    let items = iterate(context, value)?;
    let key = |item: &Value| {
        let mut keys = Vec::new();
        for getter in &getters {
            let found = getter.get(context, item, None)?;
            keys.push(folded(context, found, case_sensitive)?);
        }
        list(keys)
    };
    list(sorted_by(context, items, key, flag(&reverse, false))?)
}

fn dictsort(
    context: &Context<'_, '_, '_>,
    value: &Value,
    arguments: &Arguments,
) -> Result<Value, Error> {
    let names = ["case_sensitive", "by", "reverse"];
    let [case_sensitive, by, reverse] = arguments.bind("dictsort", names, 0)?;
    let by = by.unwrap_or_else(|| Value::from("key"));
    let by_value = match text("dictsort", &by)? {
        "key" => false,
        "value" => true,
        _ => return Err(fail("dictsort: sorts by either \"key\" or \"value\"")),
    };
    let View::Dict(dict) = view(value) else {
        return Err(fail(format!(
            "dictsort: expected a dict, not {}",
            type_name(value)
        )));
    };
    context.items(dict.entries.len())?;
    let case_sensitive = flag(&case_sensitive, false);
    let sorted = sorted_by(
        context,
        dict.entries.clone(),
        |(key, value)| {
            let by = if by_value { value } else { key };
            folded(context, by.clone(), case_sensitive)
        },
        flag(&reverse, false),
    )?;
    let pairs: Result<Vec<Value>, Error> = sorted
        .into_iter()
        .map(|(key, value)| tuple(vec![key, value]))
        .collect();
    list(pairs?)
}

fn unique(
    context: &Context<'_, '_, '_>,
    items: Vec<Value>,
    key: impl Fn(&Value) -> Result<Value, Error>,
) -> Result<Value, Error> {
    let mut seen = HashSet::new();
    let mut kept = Vec::new();
    for item in items {
        let key = key(&item)?;
        context.read(key.as_str().map_or(0, str::len))?;
        if seen.insert(Key::of(&key)?) {
            kept.push(item);
        }
    }
    generator("sync_do_unique", kept)
}

fn extreme(
    context: &Context<'_, '_, '_>,
    name: &str,
    items: Vec<Value>,
    key: impl Fn(&Value) -> Result<Value, Error>,
) -> Result<Value, Error> {
    let (operator, wanted) = if name == "min" {
        ("<", Ordering::Less)
    } else {
        (">", Ordering::Greater)
    };
    let mut best: Option<(Value, Value)> = None;
    for item in items {
        let key = key(&item)?;
        let better = match &best {
            Some((best, _)) => order(context, operator, &key, best)? == Some(wanted),
            None => true,
        };
        if better {
            best = Some((key, item));
        }
    }
    Ok(best.map(|(_, item)| item).unwrap_or_default())
}

fn groupby(
    context: &Context<'_, '_, '_>,
    value: &Value,
    arguments: &Arguments,
) -> Result<Value, Error> {
    let names = ["attribute", "default", "case_sensitive"];
    let [attribute, default, case_sensitive] = arguments.bind("groupby", names, 1)?;
    let getter = AttributeGetter::new(attribute.as_ref());
    let case_sensitive = flag(&case_sensitive, false);
    let real_key = |item: &Value| getter.get(context, item, default.as_ref());
    let key = |item: &Value| folded(context, real_key(item)?, case_sensitive);
    let items = iterate(context, value)?;
    let mut groups: Vec<(Value, Vec<Value>)> = Vec::new();
    for item in sorted_by(context, items, key, false)? {
        let key = key(&item)?;
        match groups.last_mut() {
            Some((last, group)) if equal(context, last, &key)? => group.push(item),
            _ => groups.push((key, vec![item])),
        }
    }
    let mut out = Vec::new();
    for (key, group) in groups {
        let grouper = match group.first() {
            Some(first) if !case_sensitive => real_key(first)?,
            _ => key,
        };
        out.push(sequence(SequenceKind::Group, vec![grouper, list(group)?])?);
    }
    list(out)
}
