//! Jinja2's filters: `value | name`.

mod html;
mod numbers;
mod select;
mod sequences;
mod sorting;
mod texts;
mod wrap;

use minijinja::{Error, ErrorKind, Value};

use super::arguments::{Arguments, flag};
use super::budget::Context;
use super::items::{attribute, item, length};
use super::repr::to_str;
use super::values::{View, generator, view};
use super::{containers, fail, json};

pub(super) use html::escaped;

const NAMES: [&str; 54] = [
    "abs",
    "attr",
    "batch",
    "capitalize",
    "center",
    "count",
    "d",
    "default",
    "dictsort",
    "e",
    "escape",
    "filesizeformat",
    "first",
    "float",
    "forceescape",
    "format",
    "groupby",
    "indent",
    "int",
    "join",
    "last",
    "length",
    "list",
    "lower",
    "items",
    "map",
    "min",
    "max",
    "pprint",
    "random",
    "reject",
    "rejectattr",
    "replace",
    "reverse",
    "round",
    "safe",
    "select",
    "selectattr",
    "slice",
    "sort",
    "string",
    "striptags",
    "sum",
    "title",
    "trim",
    "truncate",
    "unique",
    "upper",
    "urlencode",
    "urlize",
    "wordcount",
    "wordwrap",
    "xmlattr",
    "tojson",
];

/// Whether Jinja2 has a filter of this name.
pub(super) fn exists(name: &str) -> bool {
    NAMES.contains(&name)
}

/// `value | name(arguments)`.
pub(crate) fn apply(
    context: &Context<'_, '_, '_>,
    name: &str,
    value: &Value,
    arguments: &Arguments,
) -> Result<Value, Error> {
    context.charge(1)?;
    match name {
        "d" | "default" => {
            let [default, boolean] = arguments.bind(name, ["default_value", "boolean"], 0)?;
            let replaced = value.is_undefined() || (flag(&boolean, false) && !value.is_true());
            Ok(if replaced {
                default.unwrap_or_else(|| Value::from(""))
            } else {
                value.clone()
            })
        }
        "count" | "length" => {
            arguments.none(name)?;
            if let View::Str(text) = view(value) {
                context.read(text.len())?;
            }
            length(value).map(Value::from)
        }
        "list" => {
            arguments.none(name)?;
            containers::to_list(context, value)
        }
        "string" => {
            arguments.none(name)?;
            match value.as_str() {
                Some(_) => Ok(value.clone()),
                None => to_str(context, value).map(Value::from),
            }
        }
        "items" => {
            arguments.none(name)?;
            match view(value) {
                View::Undefined => generator("do_items", Vec::new()),
                View::Dict(_) => {
                    let items = containers::call(context, value, "items", &Arguments::default())?;
                    generator("do_items", super::items::iterate(context, &items)?)
                }
                _ => Err(fail("items: can only get item pairs from a mapping")),
            }
        }
        "attr" => {
            let [attr] = arguments.bind(name, ["name"], 1)?;
            let attr = attr.unwrap_or_default();
            let attr = super::arguments::text(name, &attr)?;
            if matches!(view(value), View::Dict(_)) && !containers::exists(value, attr) {
                return Ok(Value::UNDEFINED);
            }
            attribute(value, attr)
        }
        "tojson" => json::to_json(context, value, arguments),
        "abs" | "float" | "int" | "round" | "sum" | "filesizeformat" => {
            numbers::apply(context, name, value, arguments)
        }
        "first" | "last" | "join" | "batch" | "slice" | "reverse" | "random" => {
            sequences::apply(context, name, value, arguments)
        }
        "map" | "select" | "reject" | "selectattr" | "rejectattr" => {
            select::apply(context, name, value, arguments)
        }
        "sort" | "dictsort" | "unique" | "min" | "max" | "groupby" => {
            sorting::apply(context, name, value, arguments)
        }
        "e" | "escape" | "forceescape" | "safe" | "striptags" | "urlencode" | "urlize"
        | "xmlattr" => html::apply(context, name, value, arguments),
        "wordwrap" => wrap::wordwrap(context, value, arguments),
        _ if exists(name) => texts::apply(context, name, value, arguments),
        _ => Err(Error::new(
            ErrorKind::UnknownFilter,
            format!("filter {name} is unknown"),
        )),
    }
}

/// Reads `a.b.0` of an item, as `map(attribute="a.b.0")` does.
pub(super) struct AttributeGetter {
    parts: Vec<Value>,
}

impl AttributeGetter {
    /// Of one attribute; none is the item itself.
    pub(super) fn new(attribute: Option<&Value>) -> Self {
        let parts = match attribute {
            None => Vec::new(),
            Some(none) if none.is_none() => Vec::new(),
            Some(attribute) => match attribute.as_str() {
                Some(path) => path.split('.').map(part).collect(),
                None => vec![attribute.clone()],
            },
        };
        Self { parts }
    }

    /// Of several, with commas between them.
    pub(super) fn several(attributes: Option<&Value>) -> Vec<Self> {
        match attributes.and_then(Value::as_str) {
            Some(paths) => paths
                .split(',')
                .map(|path| Self::new(Some(&Value::from(path))))
                .collect(),
            None => vec![Self::new(attributes)],
        }
    }

    pub(super) fn get(
        &self,
        context: &Context<'_, '_, '_>,
        value: &Value,
        default: Option<&Value>,
    ) -> Result<Value, Error> {
        let mut found = value.clone();
        context.items(self.parts.len())?;
        for part in &self.parts {
            found = item(context, &found, part)?;
            if found.is_undefined()
                && let Some(default) = default.filter(|default| !default.is_none())
            {
                found = default.clone();
            }
        }
        Ok(found)
    }
}

fn part(name: &str) -> Value {
    let digits = !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_digit());
    match name.parse::<i64>() {
        Ok(index) if digits => Value::from(index),
        _ => Value::from(name),
    }
}

/// Strings are compared in lower case unless a filter is case sensitive.
pub(super) fn ignore_case(context: &Context<'_, '_, '_>, value: Value) -> Result<Value, Error> {
    match value.as_str() {
        Some(text) => {
            context.build(text.len())?;
            Ok(Value::from(text.to_lowercase()))
        }
        None => Ok(value),
    }
}
