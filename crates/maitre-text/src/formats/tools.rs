//! The tools of a request, checked once, and which of them the model has to call.

use std::collections::HashMap;

use serde_json::{Map, Value, json};

use super::schema::Kinds;
use crate::TextError;

/// Longest name of a tool, in bytes.
const MAX_NAME_BYTES: usize = 128;

/// A function that the model may call.
#[derive(Debug, Clone, PartialEq)]
pub struct Tool {
    /// What the model calls it: letters, digits, `_`, `-`, `.` and `/`, at most 128 of them.
    pub name: String,
    /// What it does, for the model.
    pub description: Option<String>,
    /// JSON schema of its arguments, an object.
    pub parameters: Map<String, Value>,
    /// Whether a call that the model makes of its own accord has to follow the schema, too.
    pub strict: bool,
}

impl Tool {
    /// Reads a tool as OpenAI's clients send it: `{type: "function", function: {name, description, parameters,
    /// strict}}`, or the function alone. Without `parameters` it takes no arguments.
    ///
    /// # Errors
    /// [`TextError::InvalidTool`]: a field is missing or has the wrong type.
    pub fn from_json(value: &Value) -> Result<Self, TextError> {
        let function = value.get("function").unwrap_or(value);
        let field = |name: &str| function.get(name).filter(|value| !value.is_null());
        let name = field("name").and_then(Value::as_str).unwrap_or_default();
        let invalid = |reason: &str| TextError::InvalidTool {
            name: name.to_owned(),
            reason: reason.to_owned(),
        };
        let description = match field("description") {
            None => None,
            Some(Value::String(text)) => Some(text.clone()),
            Some(_) => return Err(invalid("its description is not a string")),
        };
        let parameters = match field("parameters") {
            None => Map::new(),
            Some(Value::Object(schema)) => schema.clone(),
            Some(_) => return Err(invalid("its parameters are not a JSON schema object")),
        };
        let strict = match field("strict") {
            None => false,
            Some(Value::Bool(strict)) => *strict,
            Some(_) => return Err(invalid("strict is neither true nor false")),
        };
        Ok(Self {
            name: name.to_owned(),
            description,
            parameters,
            strict,
        })
    }

    fn check(&self) -> Result<(), TextError> {
        let invalid = |reason: String| {
            Err(TextError::InvalidTool {
                name: self.name.clone(),
                reason,
            })
        };
        if self.name.is_empty() {
            return invalid("it has no name".into());
        }
        if self.name.len() > MAX_NAME_BYTES {
            return invalid(format!("its name has more than {MAX_NAME_BYTES} bytes"));
        }
        if let Some(c) = self.name.chars().find(|&c| !is_name_character(c)) {
            return invalid(format!(
                "its name contains {c:?}; expected letters, digits, _, -, . and / only"
            ));
        }
        if let Some(kind) = self.parameters.get("type")
            && kind != "object"
        {
            return invalid(format!(
                "the schema of its parameters has the type {kind}; expected \"object\""
            ));
        }
        match self.parameters.get("properties") {
            None | Some(Value::Object(_)) => Ok(()),
            Some(_) => invalid("the properties of its parameters are not an object".into()),
        }
    }

    /// The schema of its arguments, which says that they are an object even where the tool's own does not.
    pub(super) fn schema(&self) -> Value {
        if self.parameters.is_empty() {
            return json!({"type": "object", "properties": {}, "additionalProperties": false});
        }
        let mut schema = self.parameters.clone();
        schema.insert("type".into(), "object".into());
        Value::Object(schema)
    }
}

/// Whether a tool's name may contain it.
pub(super) fn is_name_character(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.' | '/')
}

/// Whether it can be a tool's name.
pub(super) fn is_name(text: &str) -> bool {
    (1..=MAX_NAME_BYTES).contains(&text.len()) && text.chars().all(is_name_character)
}

/// The tools of a request: their names are valid and different.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Tools {
    tools: Vec<Tool>,
    by_name: HashMap<String, usize>,
    exclusive: bool,
}

impl Tools {
    /// Checks the tools of a request.
    ///
    /// # Errors
    /// [`TextError::InvalidTool`]: a name is empty, too long, has other characters, or is used twice; a schema
    /// is not one of an object.
    pub fn new(tools: Vec<Tool>) -> Result<Self, TextError> {
        let mut by_name = HashMap::with_capacity(tools.len());
        for (index, tool) in tools.iter().enumerate() {
            tool.check()?;
            if by_name.insert(tool.name.clone(), index).is_some() {
                return Err(TextError::InvalidTool {
                    name: tool.name.clone(),
                    reason: "two tools have this name".into(),
                });
            }
        }
        Ok(Self {
            tools,
            by_name,
            exclusive: false,
        })
    }

    /// The same, of which the model may call no other, even where it chooses for itself: its prompt may show it more
    /// tools than these.
    #[must_use]
    pub fn exclusive(mut self) -> Self {
        self.exclusive = true;
        self
    }

    /// Whether a grammar keeps the model from calling other tools: see [`exclusive`](Self::exclusive).
    pub fn is_exclusive(&self) -> bool {
        self.exclusive
    }

    /// Reads and checks the tools of a request as OpenAI's clients send them.
    ///
    /// # Errors
    /// Those of [`Tool::from_json`] and [`Tools::new`].
    pub fn from_json(tools: &[Value]) -> Result<Self, TextError> {
        Self::new(
            tools
                .iter()
                .map(Tool::from_json)
                .collect::<Result<_, _>>()?,
        )
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.tools.is_empty()
    }

    /// The tools in the order of the request.
    pub fn iter(&self) -> impl Iterator<Item = &Tool> {
        self.tools.iter()
    }

    /// The tool of this name.
    pub fn get(&self, name: &str) -> Option<&Tool> {
        self.tools.get(*self.by_name.get(name)?)
    }

    /// What the schema allows an argument to be.
    pub(super) fn kinds(&self, tool: &str, argument: &str) -> Kinds {
        self.get(tool).map_or(Kinds::default(), |tool| {
            Kinds::of_property(&tool.parameters, argument)
        })
    }
}

/// Whether the model calls a tool.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum ToolChoice {
    /// As the model likes.
    #[default]
    Auto,
    /// It calls none.
    None,
    /// It calls at least one.
    Required,
    /// It calls this one.
    Named(String),
}

impl ToolChoice {
    /// Checks that the choice can be met.
    ///
    /// # Errors
    /// [`TextError::ToolChoice`]: a call is required and there are no tools, or the named one is not among them.
    pub fn check(&self, tools: &Tools) -> Result<(), TextError> {
        let reason = match self {
            Self::Required if tools.is_empty() => {
                "a call is required, but the request has no tools".to_owned()
            }
            Self::Named(name) if tools.get(name).is_none() => {
                format!(
                    "the tool {name:?} is to be called, but the request has no tool of this name"
                )
            }
            Self::Auto | Self::None | Self::Required | Self::Named(_) => return Ok(()),
        };
        Err(TextError::ToolChoice { reason })
    }
}
