//! The functions that a translated template calls, registered as minijinja filters, and the
//! environment around them.

use minijinja::value::Rest;
use minijinja::{AutoEscape, Environment, Error, ErrorKind, Output, State, Value};

use super::TemplateLimits;
use crate::python::arguments::Arguments;
use crate::python::budget::Context;
use crate::python::call::{Missing, Signature, bind, build_list, call, call_method, globals, pack};
use crate::python::items::{attribute, item, iterate, slice, unpack};
use crate::python::operators::{binary, concat, unary};
use crate::python::repr::to_str;
use crate::python::values::{Namespace, dict, tuple};
use crate::python::{check, compare_named, fail, filters, parse_float};

/// Macros that call each other, and scopes inside each other, may be this deep; a macro's call counts
/// for five. The interpreter uses the thread's stack.
const MAX_RECURSION: usize = 250;

/// The environment that transformers renders chat templates in, without any template.
pub(super) fn environment(limits: TemplateLimits) -> Environment<'static> {
    let mut environment = Environment::empty();
    environment.set_recursion_limit(MAX_RECURSION);
    environment.set_auto_escape_callback(|_| AutoEscape::None);
    for (name, function) in globals() {
        environment.add_global(name, function);
    }
    set_limits(&mut environment, limits);
    environment
}

/// Replaces what one rendering may consume.
pub(super) fn set_limits(environment: &mut Environment<'static>, limits: TemplateLimits) {
    environment.set_fuel(Some(limits.instructions));
    environment.set_formatter(move |out, state, value| write_value(out, state, value, limits));
    for (name, operation) in OPERATIONS {
        environment.add_filter(
            format!("__jj_{name}"),
            move |state: &State<'_, '_>, values: Rest<Value>| {
                let context = Context::new(state, limits);
                context.charge(1)?;
                for value in values.iter() {
                    context.read(value.as_str().map_or(0, str::len))?;
                }
                let (first, rest) = values
                    .split_first()
                    .ok_or_else(|| fail("an operation without an operand"))?;
                operation(&context, first, rest)
            },
        );
    }
}

/// Writes a value the way Python prints it, and counts what it writes: text that is captured may
/// never reach the output.
fn write_value(
    out: &mut Output<'_>,
    state: &State<'_, '_>,
    value: &Value,
    limits: TemplateLimits,
) -> Result<(), Error> {
    let context = Context::new(state, limits);
    match value.as_str() {
        Some(text) => {
            context.write(text.len())?;
            Ok(out.write_str(text)?)
        }
        None => {
            let text = to_str(&context, value)?;
            context.write(text.len())?;
            Ok(out.write_str(&text)?)
        }
    }
}

/// An operand and the arguments behind it.
type Operation = fn(&Context<'_, '_, '_>, &Value, &[Value]) -> Result<Value, Error>;

const OPERATIONS: [(&str, Operation); 27] = [
    ("list", |context, items, _| build_list(context, items)),
    ("tuple", |context, items, _| {
        let items: Vec<Value> = items.try_iter()?.collect();
        context.items(items.len())?;
        tuple(items)
    }),
    ("dict", |context, flat, _| {
        let flat: Vec<Value> = flat.try_iter()?.collect();
        context.items(flat.len())?;
        for value in &flat {
            context.read(value.as_str().map_or(0, str::len))?;
        }
        dict(
            flat.chunks_exact(2)
                .filter_map(|pair| Some((pair.first()?.clone(), pair.get(1)?.clone()))),
        )
    }),
    ("float", |_, text, _| {
        let number = text.as_str().and_then(parse_float);
        Ok(Value::from(number.unwrap_or(f64::NAN)))
    }),
    ("concat", |context, parts, _| {
        let parts: Vec<Value> = parts.try_iter()?.collect();
        concat(context, &parts)
    }),
    ("op", |context, left, rest| {
        binary(context, name(rest), left, argument(rest, 1))
    }),
    ("unary", |_, operand, rest| unary(name(rest), operand)),
    ("cmp", |context, left, rest| {
        compare_named(context, name(rest), left, argument(rest, 1)).map(Value::from)
    }),
    ("cmp_keep", |context, left, rest| {
        let right = argument(rest, 1);
        context.keep(right.clone());
        compare_named(context, name(rest), left, right).map(Value::from)
    }),
    ("kept", |context, _, _| Ok(context.take_kept())),
    ("attr", |_, object, rest| attribute(object, name(rest))),
    ("item", |context, object, rest| {
        item(context, object, argument(rest, 0))
    }),
    ("slice", slice),
    // Of a literal, Jinja2 takes the TypeError for an absent item, and no other error.
    ("literal_slice", |context, object, rest| {
        let is_type_error = |error: &Error| {
            error.kind() == ErrorKind::InvalidOperation && argument(rest, 2).as_i64() != Some(0)
        };
        match slice(context, object, rest) {
            Err(error) if is_type_error(&error) => Ok(Value::UNDEFINED),
            sliced => sliced,
        }
    }),
    ("same", |_, value, _| Ok(value.clone())),
    ("call", |context, function, rest| {
        if function.is_undefined() && !name(rest).is_empty() {
            return Err(Error::new(
                ErrorKind::UnknownFunction,
                format!("{} is unknown", name(rest)),
            ));
        }
        call(context, function, &named_arguments(rest))
    }),
    ("method", |context, object, rest| {
        call_method(context, object, name(rest), &named_arguments(rest))
    }),
    ("filter", |context, value, rest| {
        filters::apply(context, name(rest), value, &named_arguments(rest))
    }),
    ("test", |context, value, rest| {
        check(context, name(rest), value, &named_arguments(rest)).map(Value::from)
    }),
    ("args", |context, positional, rest| {
        pack(
            context,
            positional,
            argument(rest, 0),
            argument(rest, 1),
            argument(rest, 2),
        )
    }),
    ("iter", |context, value, rest| {
        let items = iterate(context, value)?;
        let Some(shape) = rest.first() else {
            return Ok(Value::from(items));
        };
        let unpacked: Result<Vec<Value>, Error> = items
            .iter()
            .map(|item| unpack(context, item, shape))
            .collect();
        unpacked.map(Value::from)
    }),
    ("unpack", |context, value, rest| {
        unpack(context, value, argument(rest, 0))
    }),
    ("namespace", |_, _, _| {
        Namespace::new(Vec::new()).map(Value::from_object)
    }),
    ("setattr", |context, object, rest| {
        let Some(namespace) = object.downcast_object_ref::<Namespace>() else {
            return Err(fail(format!(
                "cannot assign the attribute '{}' on what is no namespace",
                name(rest)
            )));
        };
        context.items(1)?;
        namespace.set(argument(rest, 0).clone(), argument(rest, 1).clone())?;
        Ok(Value::from(""))
    }),
    ("bind", |context, arguments, rest| {
        let is_set = |at| argument(rest, at).is_true();
        let signature = Signature {
            name: name(rest),
            parameters: argument(rest, 1).try_iter()?.collect(),
            defaults: argument(rest, 2).as_usize().unwrap_or(0),
            takes_varargs: is_set(3),
            takes_kwargs: is_set(4),
            takes_caller: is_set(5),
        };
        bind(context, &signature, arguments)
    }),
    ("is_missing", |_, value, _| {
        Ok(Value::from(
            value.downcast_object_ref::<Missing>().is_some(),
        ))
    }),
    ("fail", |_, message, _| Err(fail(message.to_string()))),
];

/// The name or operator that an operation's first argument is.
fn name(arguments: &[Value]) -> &str {
    arguments
        .first()
        .and_then(Value::as_str)
        .unwrap_or_default()
}

fn argument(arguments: &[Value], at: usize) -> &Value {
    arguments.get(at).unwrap_or(&Value::UNDEFINED)
}

/// The arguments behind a name.
fn named_arguments(arguments: &[Value]) -> Arguments {
    Arguments::from_values(arguments.get(1..).unwrap_or_default())
}
