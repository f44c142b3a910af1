//! How the model writes calls and thoughts: what its chat template shows, or what the settings say instead.

use maitre_text::{ReasoningFormat, Tokenizer, ToolFormat};

use crate::request::parts::Formats;
use crate::{EngineBuilder, StartError};

/// Takes the place of a name where the template is not to be gone by either.
const NONE: &str = "none";

impl EngineBuilder {
    /// The formats of a model with this tokenizer and chat template.
    ///
    /// # Errors
    /// A format that was asked for is not known.
    pub(crate) fn formats(&self, tokenizer: &Tokenizer) -> Result<Formats, StartError> {
        let (tool, reasoning) = self.given_formats()?;
        let template = tokenizer.chat_template();
        Ok(Formats {
            tool: tool.unwrap_or_else(|| template?.tool_format()),
            reasoning: reasoning.unwrap_or_else(|| template?.reasoning_format()),
        })
    }

    /// What the settings say, as far as they do.
    #[allow(clippy::type_complexity, reason = "two settings, each may say `none`")]
    pub(crate) fn given_formats(
        &self,
    ) -> Result<
        (
            Option<Option<&'static ToolFormat>>,
            Option<Option<&'static ReasoningFormat>>,
        ),
        StartError,
    > {
        let tool = given(
            "--tool-format",
            self.tool_format.as_deref(),
            ToolFormat::named,
            || ToolFormat::all().map(|format| format.name).collect(),
        )?;
        let reasoning = given(
            "--reasoning-format",
            self.reasoning_format.as_deref(),
            ReasoningFormat::named,
            || ReasoningFormat::all().map(|format| format.name).collect(),
        )?;
        Ok((tool, reasoning))
    }
}

fn given<T>(
    setting: &'static str,
    name: Option<&str>,
    named: impl Fn(&str) -> Option<&'static T>,
    all: impl Fn() -> Vec<&'static str>,
) -> Result<Option<Option<&'static T>>, StartError> {
    match name {
        None => Ok(None),
        Some(NONE) => Ok(Some(None)),
        Some(name) => match named(name) {
            Some(format) => Ok(Some(Some(format))),
            None => Err(StartError::Setting {
                setting,
                found: name.to_owned(),
                expected: format!("{NONE}, or one of {}", all().join(", ")),
            }),
        },
    }
}
