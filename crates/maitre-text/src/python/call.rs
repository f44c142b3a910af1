//! What can be called: methods, macros, and Jinja2's global functions.

use std::collections::HashSet;
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use minijinja::value::{Object, ObjectRepr};
use minijinja::{Error, Value};

use super::arguments::{Arguments, integer, text};
use super::budget::Context;
use super::items::{attribute, iterate};
use super::repr::{repr, to_str};
use super::values::{Dict, Namespace, Range, View, dict, list, tuple, type_name, view};
use super::{containers, fail, string_methods, unsupported};
use crate::strftime::strftime;
use crate::template::Refusal;

/// Jinja2's sandbox makes no longer ranges.
const MAX_RANGE: u128 = 100_000;

/// `value.name` where that is a method.
pub(crate) struct Method {
    pub(super) receiver: Value,
    name: Box<str>,
}

impl Method {
    pub(super) fn value(receiver: &Value, name: &str) -> Value {
        Value::from_object(Self {
            receiver: receiver.clone(),
            name: name.into(),
        })
    }
}

/// Without the receiver, which can be large.
impl fmt::Debug for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "<method {}>", self.name)
    }
}

impl Object for Method {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Plain
    }
}

/// A global function.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Function {
    Range,
    Dict,
    Namespace,
    Cycler,
    Joiner,
    Lipsum,
    RaiseException,
    /// `strftime_now`, which always stands at this moment.
    StrftimeNow(SystemTime),
}

impl Object for Function {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Plain
    }
}

/// The global functions under their names.
pub(crate) fn globals() -> impl Iterator<Item = (&'static str, Value)> {
    [
        ("range", Function::Range),
        ("dict", Function::Dict),
        ("namespace", Function::Namespace),
        ("cycler", Function::Cycler),
        ("joiner", Function::Joiner),
        ("lipsum", Function::Lipsum),
        ("raise_exception", Function::RaiseException),
    ]
    .into_iter()
    .map(|(name, function)| (name, Value::from_object(function)))
}

/// `cycler(…)`.
pub(crate) struct Cycler {
    /// A tuple.
    pub(super) items: Value,
    position: AtomicUsize,
}

impl Cycler {
    pub(super) fn attribute(&self, name: &str) -> Option<Value> {
        let View::Tuple(items) = view(&self.items) else {
            return None;
        };
        let position = self.position.load(Ordering::Relaxed);
        match name {
            "current" => items.items.get(position).cloned(),
            "pos" => Some(Value::from(position)),
            "items" => Some(self.items.clone()),
            _ => None,
        }
    }

    fn next(&self) -> Value {
        let current = self.attribute("current").unwrap_or_default();
        if let View::Tuple(items) = view(&self.items) {
            let next = (self.position.load(Ordering::Relaxed) + 1) % items.items.len().max(1);
            self.position.store(next, Ordering::Relaxed);
        }
        current
    }
}

impl fmt::Debug for Cycler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("<cycler>")
    }
}

impl Object for Cycler {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Plain
    }
}

/// `joiner(…)`: nothing the first time it is called, the separator from then on.
#[derive(Debug)]
struct Joiner {
    separator: Mutex<Value>,
    used: AtomicBool,
}

impl Object for Joiner {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Plain
    }
}

/// `object.name(…)`.
pub(crate) fn call_method(
    context: &Context<'_, '_, '_>,
    object: &Value,
    name: &str,
    arguments: &Arguments,
) -> Result<Value, Error> {
    let method = attribute(object, name)?;
    if method.is_undefined() {
        let kind = type_name(object);
        return Err(if containers::modifies(object, name) {
            fail(format!(
                "the sandbox does not let templates call the method {name} of {kind}"
            ))
        } else {
            fail(format!("'{kind}' object has no attribute '{name}'"))
        });
    }
    call(context, &method, arguments)
}

/// `function(…)`.
pub(crate) fn call(
    context: &Context<'_, '_, '_>,
    function: &Value,
    arguments: &Arguments,
) -> Result<Value, Error> {
    if let Some(method) = function.downcast_object_ref::<Method>() {
        return call_bound(context, method, arguments);
    }
    if let Some(function) = function.downcast_object_ref::<Function>() {
        return call_global(context, *function, arguments);
    }
    if let Some(joiner) = function.downcast_object_ref::<Joiner>() {
        arguments.none("joiner")?;
        return Ok(if joiner.used.swap(true, Ordering::Relaxed) {
            let separator = joiner.separator.lock();
            separator.unwrap_or_else(PoisonError::into_inner).clone()
        } else {
            Value::from("")
        });
    }
    match view(function) {
        View::Undefined => Err(fail("an undefined value cannot be called")),
        View::Other if is_macro(function) => {
            function.call(context.state, &[Value::from_object(arguments.clone())])
        }
        _ => Err(fail(format!(
            "'{}' object is not callable",
            type_name(function)
        ))),
    }
}

pub(super) fn is_macro(value: &Value) -> bool {
    value.as_object().is_some() && value.to_string().starts_with("<macro ")
}

/// Whether Python could call the value.
pub(super) fn is_callable(value: &Value) -> bool {
    value.is_undefined()
        || is_macro(value)
        || value.downcast_object_ref::<Method>().is_some()
        || value.downcast_object_ref::<Function>().is_some()
        || value.downcast_object_ref::<Joiner>().is_some()
}

fn call_bound(
    context: &Context<'_, '_, '_>,
    method: &Method,
    arguments: &Arguments,
) -> Result<Value, Error> {
    let receiver = &method.receiver;
    let name = &*method.name;
    context.charge(1)?;
    if let Some(cycler) = receiver.downcast_object_ref::<Cycler>() {
        arguments.none(name)?;
        if name == "next" {
            return Ok(cycler.next());
        }
        cycler.position.store(0, Ordering::Relaxed);
        return Ok(Value::from(()));
    }
    match view(receiver) {
        View::Str(_) => string_methods::call(context, receiver, name, arguments),
        View::Other => call_loop(context, receiver, name, arguments),
        _ => containers::call(context, receiver, name, arguments),
    }
}

/// `loop.cycle(…)` and `loop.changed(…)`.
fn call_loop(
    context: &Context<'_, '_, '_>,
    receiver: &Value,
    name: &str,
    arguments: &Arguments,
) -> Result<Value, Error> {
    if !arguments.named.is_empty() {
        return Err(fail(format!("{name}() takes no keyword arguments")));
    }
    let given = match name {
        "cycle" if arguments.positional.is_empty() => {
            return Err(fail("no items for cycling given"));
        }
        "cycle" => arguments.positional.clone(),
        // What is compared is the text: it is bounded, unlike a comparison of nested lists.
        _ => arguments
            .positional
            .iter()
            .map(|value| repr(context, value).map(Value::from))
            .collect::<Result<_, _>>()?,
    };
    receiver.call_method(context.state, name, &given)
}

fn call_global(
    context: &Context<'_, '_, '_>,
    function: Function,
    arguments: &Arguments,
) -> Result<Value, Error> {
    match function {
        Function::Range => range(arguments),
        Function::Dict => pairs(context, "dict", arguments).and_then(dict),
        Function::Namespace => {
            let pairs = pairs(context, "namespace", arguments)?;
            let dict = Dict::new(pairs)?;
            Namespace::new(dict.entries).map(Value::from_object)
        }
        Function::Cycler => {
            if arguments.positional.is_empty() {
                return Err(fail("cycler(): at least one item has to be provided"));
            }
            Ok(Value::from_object(Cycler {
                items: tuple(arguments.positional.clone())?,
                position: AtomicUsize::new(0),
            }))
        }
        Function::Joiner => {
            let [separator] = arguments.bind("joiner", ["sep"], 0)?;
            let separator = separator.unwrap_or_else(|| Value::from(", "));
            Ok(Value::from_object(Joiner {
                separator: Mutex::new(match separator.as_str() {
                    Some(_) => separator,
                    None => return Err(unsupported("a joiner of what is no string")),
                }),
                used: AtomicBool::new(false),
            }))
        }
        Function::Lipsum => Err(unsupported("lipsum()")),
        Function::RaiseException => {
            let [message] = arguments.bind("raise_exception", ["message"], 1)?;
            let message = to_str(context, &message.unwrap_or_default())?;
            Err(fail(message.clone()).with_source(Refusal(message)))
        }
        Function::StrftimeNow(now) => {
            let [format] = arguments.bind("strftime_now", ["format"], 1)?;
            let format = format.unwrap_or_default();
            let format = text("strftime_now", &format)?;
            // The longest date takes fewer bytes for each of the format's.
            context.build(format.len().saturating_mul(32))?;
            Ok(Value::from(strftime(format, now)))
        }
    }
}

fn range(arguments: &Arguments) -> Result<Value, Error> {
    let [first, second, step] = arguments.bind("range", ["", "", ""], 1)?;
    let number = |value: Option<Value>| {
        value
            .map(|value| integer("range", &value))
            .transpose()
            .map(|number| number.unwrap_or(0))
    };
    let (start, stop) = match second {
        Some(_) => (number(first)?, number(second)?),
        None => (0, number(first)?),
    };
    let step = step.map_or(Ok(1), |step| integer("range", &step))?;
    if step == 0 {
        return Err(fail("range() arg 3 must not be zero"));
    }
    let range = Range { start, stop, step };
    if range.len() > MAX_RANGE {
        return Err(fail(format!(
            "range too big: the sandbox blocks ranges larger than {MAX_RANGE}"
        )));
    }
    Ok(Value::from_object(range))
}

/// What `dict(…)` takes: a mapping or pairs, and named values.
fn pairs(
    context: &Context<'_, '_, '_>,
    name: &str,
    arguments: &Arguments,
) -> Result<Vec<(Value, Value)>, Error> {
    let mut pairs = match arguments.positional.as_slice() {
        [] => Vec::new(),
        [only] => match view(only) {
            View::Dict(dict) => {
                context.items(dict.entries.len())?;
                dict.entries.clone()
            }
            View::Undefined => Vec::new(),
            _ => {
                let mut pairs = Vec::new();
                for pair in iterate(context, only)? {
                    match iterate(context, &pair)?.as_slice() {
                        [key, value] => pairs.push((key.clone(), value.clone())),
                        _ => return Err(fail(format!("{name}() takes pairs of key and value"))),
                    }
                }
                pairs
            }
        },
        _ => return Err(fail(format!("{name}() takes at most 1 argument"))),
    };
    for (key, _) in &pairs {
        context.read(key.as_str().map_or(0, str::len))?;
    }
    for (name, value) in &arguments.named {
        pairs.push((Value::from(&**name), value.clone()));
    }
    Ok(pairs)
}

/// Stands for a macro's argument that was not given and has a default.
#[derive(Debug)]
pub(crate) struct Missing;

impl Object for Missing {}

/// A macro's parameters, as its definition has them.
pub(crate) struct Signature<'a> {
    pub(crate) name: &'a str,
    pub(crate) parameters: Vec<Value>,
    pub(crate) defaults: usize,
    pub(crate) takes_varargs: bool,
    pub(crate) takes_kwargs: bool,
    pub(crate) takes_caller: bool,
}

/// The values of a macro's parameters, of `varargs`, `kwargs` and `caller`.
pub(crate) fn bind(
    context: &Context<'_, '_, '_>,
    signature: &Signature<'_>,
    arguments: &Value,
) -> Result<Value, Error> {
    let arguments = arguments
        .downcast_object_ref::<Arguments>()
        .cloned()
        .unwrap_or_default();
    let name = signature.name;
    let count = signature.parameters.len();
    context.items(arguments.positional.len())?;
    context.items(arguments.named.len().saturating_mul(count + 1))?;
    let mut named = arguments.named;
    let mut take = |parameter: &str| {
        let at = named.iter().position(|(name, _)| &**name == parameter)?;
        Some(named.remove(at).1)
    };
    let mut bound = Vec::new();
    for (at, parameter) in signature.parameters.iter().enumerate() {
        let parameter = parameter.as_str().unwrap_or_default();
        let value = match arguments.positional.get(at) {
            Some(value) => Some(value.clone()),
            None => take(parameter),
        };
        let has_default = at + signature.defaults >= count;
        bound.push(match value {
            Some(value) => value,
            None if has_default => Value::from_object(Missing),
            None => Value::UNDEFINED,
        });
    }
    let caller = if signature.takes_caller {
        take("caller")
    } else {
        None
    };
    let extra: Vec<Value> = arguments.positional.into_iter().skip(count).collect();
    if !signature.takes_varargs && !extra.is_empty() {
        return Err(fail(format!(
            "macro '{name}' takes not more than {count} argument(s)"
        )));
    }
    if !signature.takes_kwargs
        && let Some((unexpected, _)) = named.first()
    {
        return Err(fail(format!(
            "macro '{name}' takes no keyword argument '{unexpected}'"
        )));
    }
    bound.push(tuple(extra)?);
    bound.push(dict(
        named
            .into_iter()
            .map(|(name, value)| (Value::from(&*name), value)),
    )?);
    bound.push(caller.unwrap_or_default());
    Ok(Value::from(bound))
}

/// The arguments of a call that has names or splats in it.
pub(crate) fn pack(
    context: &Context<'_, '_, '_>,
    positional: &Value,
    named: &Value,
    splat: &Value,
    named_splat: &Value,
) -> Result<Value, Error> {
    let only = |splat: &Value| {
        let View::List(list) = view(splat) else {
            return None;
        };
        list.items.first().cloned()
    };
    let mut arguments = Arguments {
        positional: positional.try_iter()?.collect(),
        named: Vec::new(),
    };
    if let Some(splat) = only(splat) {
        arguments.positional.extend(iterate(context, &splat)?);
    }
    let flat: Vec<Value> = named.try_iter()?.collect();
    let mut pairs: Vec<(Value, Value)> = flat
        .chunks_exact(2)
        .filter_map(|pair| Some((pair.first()?.clone(), pair.get(1)?.clone())))
        .collect();
    if let Some(splat) = only(named_splat) {
        let View::Dict(dict) = view(&splat) else {
            return Err(fail("the argument after ** must be a mapping"));
        };
        context.items(dict.entries.len())?;
        pairs.extend(dict.entries.iter().cloned());
    }
    let mut given: HashSet<Arc<str>> = HashSet::new();
    for (name, value) in pairs {
        let name = name
            .to_str()
            .ok_or_else(|| fail("keywords must be strings"))?;
        if !given.insert(name.clone()) {
            return Err(fail(format!(
                "got multiple values for keyword argument '{name}'"
            )));
        }
        arguments.named.push((name, value));
    }
    Ok(Value::from_object(arguments))
}

/// A list literal.
pub(crate) fn build_list(context: &Context<'_, '_, '_>, items: &Value) -> Result<Value, Error> {
    let items: Vec<Value> = items.try_iter()?.collect();
    context.items(items.len())?;
    list(items)
}
