//! Chat templates: Jinja programs that models bring along and that turn a conversation into the text
//! they were trained on.
//!
//! The environment is the one transformers compiles templates in (`apply_chat_template`): Jinja2's
//! `ImmutableSandboxedEnvironment` with `trim_blocks`, `lstrip_blocks`, loop controls, `tojson` as
//! `json.dumps`, `raise_exception`, `strftime_now`, `{% generation %}`. A template is parsed by
//! Jinja2's grammar ([`statements`], [`expressions`]), translated ([`translate`]), and run by minijinja
//! with Python's values and operators ([`crate::python`]). What comes out is what Jinja2 writes, or an
//! error; what is not supported is an error that names it.
//!
//! A rendering is bounded ([`TemplateLimits`]): by instructions and by the work of every operator,
//! filter and method; by the bytes it writes and the length of any text it builds; by the depth of
//! recursion. A template's nesting and the nesting of the values it builds are bounded too.

mod ast;
mod continuation;
mod expressions;
mod lexer;
mod literals;
mod runtime;
mod statements;
mod syntax_error;
mod translate;

use std::collections::BTreeMap;
use std::error::Error as _;
use std::fmt;

use minijinja::{Environment, Error, ErrorKind, Value};

use crate::TextError;
use crate::chat::ChatRequest;
use crate::config::SpecialTokens;
use crate::formats::{ReasoningFormat, ToolFormat};
use crate::python::call::Function;
use crate::python::values::from_json;

/// What one rendering may consume.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TemplateLimits {
    /// Units of work: the template's instructions (an expression takes a handful, a message of a chat
    /// some hundred), two for every item of a list that is read or built, one for every 64 bytes of
    /// text that are read or built.
    pub instructions: u64,
    /// Bytes written, counting captured text each time it is written; and the length of any single
    /// text that is built.
    pub output_bytes: usize,
}

impl Default for TemplateLimits {
    fn default() -> Self {
        Self {
            instructions: 10_000_000,
            output_bytes: 64 << 20,
        }
    }
}

/// What a request says in fields of its own and a template argument must not replace.
const RESERVED: [&str; 3] = ["messages", "tools", "add_generation_prompt"];

/// The template that applies when no other does, and the one for requests with tools.
pub(crate) const DEFAULT: &str = "default";
const TOOL_USE: &str = "tool_use";

/// A model's chat template, parsed once; or several, of which `tool_use` renders requests with tools
/// and `default` all others. Of several, one that cannot be used fails the chats that need it, and no other.
#[derive(Debug, Clone)]
pub struct ChatTemplate {
    environment: Environment<'static>,
    /// The sources as the model has them, under their names.
    sources: BTreeMap<String, String>,
    /// What is wrong with the templates that cannot be used, by name.
    broken: BTreeMap<String, String>,
    limits: TemplateLimits,
}

impl ChatTemplate {
    /// Parses one template.
    ///
    /// # Errors
    /// [`TextError::InvalidTemplate`] with the line.
    pub fn new(source: &str) -> Result<Self, TextError> {
        let template = Self::from_members(vec![(DEFAULT.to_owned(), Ok(source.to_owned()))]);
        match template.problems().into_iter().next() {
            Some(problem) => Err(problem),
            None => Ok(template),
        }
    }

    /// Parses what could be read of several templates, given as (name, source or what is wrong with it). One
    /// that cannot be used, or that none is called `default`, is no error here: it fails the chats that need
    /// it, and [`problems`](Self::problems) tells.
    pub(crate) fn from_members(members: Vec<(String, Result<String, String>)>) -> Self {
        let limits = TemplateLimits::default();
        let mut environment = runtime::environment(limits);
        let (mut sources, mut broken) = (BTreeMap::new(), BTreeMap::new());
        for (name, source) in members {
            // Of two with one name, the later one counts, whether it can be used or not.
            environment.remove_template(&name);
            broken.remove(&name);
            let added = source.and_then(|source| {
                let translated =
                    translate::translate(&source).map_err(|error| error.describe(&name))?;
                sources.insert(name.clone(), source);
                environment
                    .add_template_owned(name.clone(), translated)
                    .map_err(|error| describe(&error))
            });
            if let Err(reason) = added {
                broken.insert(name, reason);
            }
        }
        if environment.get_template(DEFAULT).is_err() && !broken.contains_key(DEFAULT) {
            let usable = environment.templates().map(|(name, _)| name);
            let names: Vec<&str> = usable.chain(broken.keys().map(String::as_str)).collect();
            let reason = format!(
                "the model names its templates, but none is called \"default\" (there is {})",
                names.join(", ")
            );
            broken.insert(DEFAULT.into(), reason);
        }
        Self {
            environment,
            sources,
            broken,
            limits,
        }
    }

    /// What is wrong with the templates that cannot be used: what chats that need them are answered.
    pub fn problems(&self) -> Vec<TextError> {
        let problem = |name: &String| self.problem(name);
        self.broken.keys().filter_map(problem).collect()
    }

    fn problem(&self, name: &str) -> Option<TextError> {
        let reason = self.broken.get(name)?;
        Some(TextError::InvalidTemplate {
            name: name.to_owned(),
            reason: reason.clone(),
        })
    }

    /// Replaces the limits of a rendering.
    #[must_use]
    pub fn with_limits(mut self, limits: TemplateLimits) -> Self {
        runtime::set_limits(&mut self.environment, limits);
        self.limits = limits;
        self
    }

    /// The text of a conversation, as the model expects it. `special_tokens` are visible to the template
    /// under their names (`bos_token`, …).
    ///
    /// # Errors
    /// No messages, a reserved name among the template's arguments, and everything a template can do
    /// wrong: see the `Template…` variants of [`TextError`].
    pub fn render(
        &self,
        request: &ChatRequest,
        special_tokens: &SpecialTokens,
    ) -> Result<String, TextError> {
        if request.messages.is_empty() {
            return Err(TextError::NoMessages);
        }
        if request.continue_final_message {
            let open = continuation::marked(request)?;
            return continuation::cut(self.render(&open, special_tokens)?);
        }
        let variables =
            variables(request, special_tokens)?.map_err(|error| self.failure(&error))?;
        let mut output = LimitedOutput {
            bytes: Vec::new(),
            limit: self.limits.output_bytes,
        };
        let template = self.template_for(request)?;
        template
            .render_captured_to(&variables, &mut output)
            .map_err(|error| self.failure(&error))?;
        String::from_utf8(output.bytes).map_err(|error| TextError::TemplateFailed {
            reason: error.to_string(),
        })
    }

    /// Whether the template that renders `request` contains `text`.
    pub(crate) fn mentions(&self, request: &ChatRequest, text: &str) -> bool {
        self.template_for(request)
            .ok()
            .and_then(|template| self.sources.get(template.name()))
            .is_some_and(|source| source.contains(text))
    }

    /// How the model writes calls of tools, as the template for chats with tools shows.
    pub fn tool_format(&self) -> Option<&'static ToolFormat> {
        let source = |name: &str| self.sources.get(name);
        let source = source(TOOL_USE).or_else(|| source(DEFAULT))?;
        ToolFormat::of_template(source)
    }

    /// How the model writes its thoughts, as the template shows.
    pub fn reasoning_format(&self) -> Option<&'static ReasoningFormat> {
        let source = |name: &str| ReasoningFormat::of_template(self.sources.get(name)?);
        source(DEFAULT).or_else(|| source(TOOL_USE))
    }

    fn template_for(
        &self,
        request: &ChatRequest,
    ) -> Result<minijinja::Template<'_, '_>, TextError> {
        let has = |name: &str| {
            self.broken.contains_key(name) || self.environment.get_template(name).is_ok()
        };
        let name = if !request.tools.is_empty() && has(TOOL_USE) {
            TOOL_USE
        } else {
            DEFAULT
        };
        if let Some(problem) = self.problem(name) {
            return Err(problem);
        }
        let template = self.environment.get_template(name);
        template.map_err(|error| self.failure(&error))
    }

    fn failure(&self, error: &Error) -> TextError {
        if let Some(Refusal(message)) = causes(error).find_map(|cause| cause.downcast_ref()) {
            return TextError::TemplateRefused {
                message: message.clone(),
            };
        }
        match innermost_kind(error) {
            ErrorKind::OutOfFuel => TextError::TemplateTooLong {
                limit_instructions: self.limits.instructions,
            },
            ErrorKind::WriteFailure => TextError::TemplateOutputTooLarge {
                limit_bytes: self.limits.output_bytes,
            },
            _ => TextError::TemplateFailed {
                reason: describe(error),
            },
        }
    }
}

/// The variables a template sees. An empty list of tools is no tools, as templates test for.
///
/// The inner error is a value that is nested too deep.
fn variables(
    request: &ChatRequest,
    special_tokens: &SpecialTokens,
) -> Result<Result<BTreeMap<String, Value>, Error>, TextError> {
    for name in request.template_kwargs.keys() {
        if RESERVED.contains(&name.as_str()) {
            return Err(TextError::ReservedTemplateArgument { name: name.clone() });
        }
    }
    Ok(unreserved_variables(request, special_tokens))
}

fn unreserved_variables(
    request: &ChatRequest,
    special_tokens: &SpecialTokens,
) -> Result<BTreeMap<String, Value>, Error> {
    let mut variables: BTreeMap<String, Value> = BTreeMap::new();
    let mut insert = |name: &str, value| variables.insert(translate::variable_name(name), value);
    for (name, token) in special_tokens {
        insert(name, Value::from(token.as_str()));
    }
    let strftime_now = Function::StrftimeNow(request.now);
    insert("strftime_now", Value::from_object(strftime_now));
    insert("documents", Value::from(()));
    for (name, value) in &request.template_kwargs {
        insert(name, from_json(value)?);
    }
    let tools = if request.tools.is_empty() {
        Value::from(())
    } else {
        from_json(&serde_json::Value::Array(request.tools.clone()))?
    };
    insert("tools", tools);
    let messages = serde_json::to_value(&request.messages)
        .map_err(|error| Error::new(ErrorKind::BadSerialization, error.to_string()))?;
    insert("messages", from_json(&messages)?);
    insert(
        "add_generation_prompt",
        Value::from(request.add_generation_prompt),
    );
    Ok(variables)
}

/// What `raise_exception` was called with.
#[derive(Debug)]
pub(crate) struct Refusal(pub(crate) String);

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Refusal {}

/// What caused an error, outermost first. An error inside a macro or block is wrapped once per level
/// on its way out.
fn causes(error: &Error) -> impl Iterator<Item = &(dyn std::error::Error + 'static)> {
    let mut next = error.source();
    std::iter::from_fn(move || {
        let cause = next?;
        next = cause.source();
        Some(cause)
    })
}

fn innermost_kind(error: &Error) -> ErrorKind {
    causes(error)
        .filter_map(|cause| cause.downcast_ref::<Error>())
        .last()
        .unwrap_or(error)
        .kind()
}

fn describe(error: &Error) -> String {
    std::iter::once(error.to_string())
        .chain(causes(error).map(|cause| format!(": {cause}")))
        .collect()
}

/// Collects a rendering until it is too long.
struct LimitedOutput {
    bytes: Vec<u8>,
    limit: usize,
}

impl std::io::Write for LimitedOutput {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        if self.bytes.len() + bytes.len() > self.limit {
            return Err(std::io::Error::other("the output limit is reached"));
        }
        self.bytes.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}
