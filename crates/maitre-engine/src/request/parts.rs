//! What of an answer is told apart from its text, as a request asks for it: calls of tools, and thoughts.

use std::sync::Arc;

use maitre_text::{
    AnswerFormat, CallGrammar, ReasoningFormat, TextError, Thought, Tokenizer, ToolChoice,
    ToolFormat, Tools,
};

use crate::Violation;

/// How calls are written where a call is required and the model's template shows no format: the most common one. A
/// model that was taught none is made to write it by its grammar.
const FORMAT_OF_REQUIRED_CALLS: &str = "hermes";
/// Tokens at a prompt's end in which the mark of a thought is looked for: more than any mark and white space have.
const TOKENS_OF_A_MARK: usize = 64;

/// How an answer is taken apart: what is no text becomes [`Part`](crate::Part)s of its own. Stop strings are found in
/// what the model writes before it is taken apart, so one may end an answer in the middle of a call or a thought.
///
/// ```
/// use std::sync::Arc;
///
/// use maitre_engine::{ChatMessage, ChatRequest, GenerateRequest, Input, PartOptions, Role, Tools, ToolChoice};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let tools = [serde_json::json!({"type": "function", "function": {"name": "weather"}})];
/// let mut chat = ChatRequest::new(vec![ChatMessage::new(Role::User, "Will it rain?")]);
/// chat.tools = tools.to_vec();
/// let mut request = GenerateRequest::new(Input::Chat(chat));
/// request.parts = Some(PartOptions {
///     tools: Arc::new(Tools::from_json(&tools)?),
///     tool_choice: ToolChoice::Required,
///     ..PartOptions::default()
/// });
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct PartOptions {
    /// The tools whose calls are looked for. The template shows the model those of the
    /// [`ChatRequest`](crate::ChatRequest), which should be the same.
    pub tools: Arc<Tools>,
    /// Whether the model calls one of them. Where it has to, a grammar makes it do so, and the request can have no
    /// other.
    pub tool_choice: ToolChoice,
    /// Whether there may be several calls; without, those behind the first are left out of what is returned.
    pub parallel_tool_calls: bool,
    /// Whether thoughts are told from the text.
    pub reasoning: bool,
    /// Most tokens of a thought: when they are spent, the thought is ended in the model's stead. `None`: no limit but
    /// that of the answer.
    pub thinking_token_budget: Option<u32>,
    /// Whether a call is returned only when it is complete. What is no well-formed call is then text as it was written;
    /// otherwise a call may have begun before that is known.
    pub whole_calls: bool,
}

impl Default for PartOptions {
    fn default() -> Self {
        Self {
            tools: Arc::default(),
            tool_choice: ToolChoice::Auto,
            parallel_tool_calls: true,
            reasoning: true,
            thinking_token_budget: None,
            whole_calls: false,
        }
    }
}

impl PartOptions {
    fn requires_a_call(&self) -> bool {
        matches!(
            self.tool_choice,
            ToolChoice::Required | ToolChoice::Named(_)
        )
    }
}

/// How the model writes calls and thoughts, as far as that is known.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Formats {
    pub(crate) tool: Option<&'static ToolFormat>,
    pub(crate) reasoning: Option<&'static ReasoningFormat>,
}

/// A request's parts, worked out for its prompt.
#[derive(Debug, Clone)]
pub(crate) struct ResolvedParts {
    /// How the answers are taken apart.
    pub(crate) format: AnswerFormat,
    pub(crate) parallel_tool_calls: bool,
    /// How the model thinks, whether thoughts are told apart or not, and where the prompt leaves off.
    pub(crate) thinks: Option<(&'static ReasoningFormat, Thought)>,
}

/// The grammar of the calls that a request asks for.
#[derive(Debug)]
pub(crate) struct Calls {
    /// In llguidance's notation.
    pub(crate) grammar: String,
    /// The same with arguments of any form, for schemas that the compiler does not know. None if a tool is strict.
    pub(crate) lenient: Option<String>,
}

impl Formats {
    /// The parts of answers to a prompt, which go on with the message `continued`, if any.
    pub(crate) fn resolve(
        self,
        options: &PartOptions,
        tokenizer: &Tokenizer,
        prompt: &[u32],
        continued: Option<&str>,
    ) -> ResolvedParts {
        let thought = |format: &ReasoningFormat| {
            if let Some(text) = continued {
                return format.within(text);
            }
            let end = prompt.len().saturating_sub(TOKENS_OF_A_MARK);
            let end = prompt.get(end..).unwrap_or_default();
            let end = tokenizer.decode(end, false);
            end.map_or(Thought::Unopened, |end| format.after(&end))
        };
        let thinks = self.reasoning.map(|format| (format, thought(format)));
        let tool_format = match options.tool_choice {
            ToolChoice::None => None,
            ToolChoice::Auto => self.tool,
            ToolChoice::Required | ToolChoice::Named(_) => self
                .tool
                .or_else(|| ToolFormat::named(FORMAT_OF_REQUIRED_CALLS)),
        };
        ResolvedParts {
            format: AnswerFormat {
                tool_format: tool_format.filter(|_| !options.tools.is_empty()),
                tools: Arc::clone(&options.tools),
                reasoning_format: self.reasoning.filter(|_| options.reasoning),
                thought: thinks.map_or(Thought::Unopened, |(_, thought)| thought),
                whole_calls: options.whole_calls,
            },
            parallel_tool_calls: options.parallel_tool_calls,
            thinks,
        }
    }
}

impl ResolvedParts {
    /// The grammar that the choice of tools asks for, if any; `has_own` says that the request brings one itself.
    pub(crate) fn calls(
        &self,
        options: &PartOptions,
        has_own: bool,
        special_token: &dyn Fn(&str) -> Option<u32>,
    ) -> Result<Option<Calls>, Violation> {
        let choice = |error: TextError| {
            let said = error.to_string();
            if matches!(error, TextError::StrictTool { .. }) {
                return Violation::new("parts.tools", said);
            }
            // The field's name stands before it.
            let said = said.strip_prefix("tool_choice ").unwrap_or(&said);
            Violation::new("parts.tool_choice", said)
        };
        options.tool_choice.check(&options.tools).map_err(choice)?;
        if has_own && options.requires_a_call() {
            return Err(Violation::new(
                "parts.tool_choice",
                "makes the model call a tool, and the request also says what form its answer has to have; use auto or \
                 none, or leave the form out",
            ));
        }
        let Some(format) = self.format.tool_format.filter(|_| !has_own) else {
            return Ok(None);
        };
        let write = |follow_schemas| {
            let grammar = format.grammar(&CallGrammar {
                tools: &options.tools,
                choice: &options.tool_choice,
                parallel: options.parallel_tool_calls,
                follow_schemas,
                reasoning: self.thinks,
                special_token,
            });
            grammar.map_err(choice)
        };
        let Some(grammar) = write(true)? else {
            return Ok(None);
        };
        let lenient = match options.tools.iter().any(|tool| tool.strict) {
            true => None,
            false => write(false)?,
        };
        Ok(Some(Calls { grammar, lenient }))
    }

    /// The mark that ends the thought which the prompt has opened: a form that the request asks for holds behind it.
    pub(crate) fn open_thought_end(&self) -> Option<&'static str> {
        match self.thinks {
            Some((format, Thought::Open)) => Some(format.close),
            _ => None,
        }
    }
}
