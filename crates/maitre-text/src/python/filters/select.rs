//! Filters that apply a filter or a test to every item.

use minijinja::{Error, Value};

use super::{AttributeGetter, apply as apply_filter};
use crate::python::arguments::{Arguments, text};
use crate::python::budget::Context;
use crate::python::checks::check;
use crate::python::fail;
use crate::python::items::iterate;
use crate::python::values::generator;

pub(super) fn apply(
    context: &Context<'_, '_, '_>,
    name: &str,
    value: &Value,
    arguments: &Arguments,
) -> Result<Value, Error> {
    // Python asks for the value's truth first: `none | map(…)` is empty, not an error.
    if !value.is_true() {
        return generator("sync_do_select", Vec::new());
    }
    if name == "map" {
        return map(context, value, arguments);
    }
    let mut rest = arguments.clone();
    let getter = if name.ends_with("attr") {
        if rest.positional.is_empty() {
            return Err(fail(format!("{name}: the attribute's name is missing")));
        }
        AttributeGetter::new(Some(&rest.positional.remove(0)))
    } else {
        AttributeGetter::new(None)
    };
    let test = if rest.positional.is_empty() {
        None
    } else {
        Some(rest.positional.remove(0))
    };
    let wanted = name.starts_with("select");
    let mut selected = Vec::new();
    for item in iterate(context, value)? {
        let tested = getter.get(context, &item, None)?;
        let holds = match &test {
            Some(test) => check(context, text(name, test)?, &tested, &rest)?,
            None => tested.is_true(),
        };
        if holds == wanted {
            selected.push(item);
        }
    }
    generator("select_or_reject", selected)
}

fn map(
    context: &Context<'_, '_, '_>,
    value: &Value,
    arguments: &Arguments,
) -> Result<Value, Error> {
    let mut mapped = Vec::new();
    let items = iterate(context, value)?;
    let by_attribute = arguments
        .named
        .iter()
        .any(|(name, _)| &**name == "attribute");
    if arguments.positional.is_empty() && by_attribute {
        let [attribute, default] = arguments.bind("map", ["attribute", "default"], 1)?;
        let getter = AttributeGetter::new(attribute.as_ref());
        for item in items {
            mapped.push(getter.get(context, &item, default.as_ref())?);
        }
    } else {
        let mut rest = arguments.clone();
        if rest.positional.is_empty() {
            return Err(fail("map: requires a filter argument"));
        }
        let filter = rest.positional.remove(0);
        let filter = text("map", &filter)?;
        for item in items {
            mapped.push(apply_filter(context, filter, &item, &rest)?);
        }
    }
    generator("sync_do_map", mapped)
}
