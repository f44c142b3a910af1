//! The arguments of a call, and how a function written for Python takes them.

use std::sync::Arc;

use minijinja::value::Object;
use minijinja::{Error, Value};

use super::fail;
use super::values::{View, type_name, view};

/// Positional and named arguments.
#[derive(Debug, Default, Clone)]
pub(crate) struct Arguments {
    pub(crate) positional: Vec<Value>,
    pub(crate) named: Vec<(Arc<str>, Value)>,
}

/// Arguments with names or splats travel through minijinja in one value.
impl Object for Arguments {}

impl Arguments {
    /// What a translated call passes.
    pub(crate) fn from_values(values: &[Value]) -> Self {
        match values {
            [only] if only.downcast_object_ref::<Self>().is_some() => only
                .downcast_object_ref::<Self>()
                .cloned()
                .unwrap_or_default(),
            values => Self {
                positional: values.to_vec(),
                named: Vec::new(),
            },
        }
    }

    /// The arguments under a function's parameter names, of which the first `required` must be given.
    /// An empty name is a parameter that can be given by its position only.
    pub(crate) fn bind<const N: usize>(
        &self,
        function: &str,
        names: [&str; N],
        required: usize,
    ) -> Result<[Option<Value>; N], Error> {
        if self.positional.len() > N {
            let given = self.positional.len();
            return Err(fail(format!(
                "{function}() takes at most {N} arguments, {given} were given"
            )));
        }
        let mut bound = [const { None }; N];
        for (slot, value) in bound.iter_mut().zip(&self.positional) {
            *slot = Some(value.clone());
        }
        for (name, value) in &self.named {
            let at = names.iter().position(|candidate| *candidate == &**name);
            match at.and_then(|at| bound.get_mut(at)) {
                Some(slot @ None) => *slot = Some(value.clone()),
                Some(Some(_)) => {
                    return Err(fail(format!(
                        "{function}() got multiple values for argument '{name}'"
                    )));
                }
                None => {
                    return Err(fail(format!(
                        "{function}() got an unexpected keyword argument '{name}'"
                    )));
                }
            }
        }
        if let Some(missing) = bound.iter().take(required).position(Option::is_none) {
            let name = names.get(missing).copied().unwrap_or_default();
            return Err(fail(format!(
                "{function}() misses argument {} {name}",
                missing + 1
            )));
        }
        Ok(bound)
    }

    /// No arguments.
    pub(crate) fn none(&self, function: &str) -> Result<(), Error> {
        self.bind::<0>(function, [], 0).map(|_| ())
    }
}

/// Whether an argument is absent or `none`.
pub(crate) fn is_absent(value: &Option<Value>) -> bool {
    value.as_ref().is_none_or(Value::is_none)
}

/// An argument that must be a string.
pub(crate) fn text<'a>(function: &str, value: &'a Value) -> Result<&'a str, Error> {
    value.as_str().ok_or_else(|| {
        fail(format!(
            "{function}() expects a str, not {}",
            type_name(value)
        ))
    })
}

/// An argument that must be an integer; booleans are.
pub(crate) fn integer(function: &str, value: &Value) -> Result<i128, Error> {
    match view(value) {
        View::Int(value) => Ok(value),
        View::Bool(value) => Ok(i128::from(value)),
        _ => Err(fail(format!(
            "{function}() expects an integer, not {}",
            type_name(value)
        ))),
    }
}

/// An optional integer.
pub(crate) fn integer_or(
    function: &str,
    value: &Option<Value>,
    default: i128,
) -> Result<i128, Error> {
    value
        .as_ref()
        .map_or(Ok(default), |value| integer(function, value))
}

/// A length or width, which is nothing if negative.
pub(crate) fn size(value: i128) -> usize {
    usize::try_from(value.max(0)).unwrap_or(usize::MAX)
}

/// An optional condition.
pub(crate) fn flag(value: &Option<Value>, default: bool) -> bool {
    value.as_ref().map_or(default, Value::is_true)
}
