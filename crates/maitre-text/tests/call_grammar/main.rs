//! The grammar of required calls against the parser: what the families' templates render is accepted, and whatever is
//! accepted parses to calls. llguidance runs the grammar, over a vocabulary of single bytes, with and without the
//! format's special tokens.

#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

mod accepted;
#[path = "../formats/mod.rs"]
mod formats;
mod schemas;
mod vocabulary;
mod walks;

use formats::{format, tools};
use maitre_text::{
    CallGrammar, ReasoningFormat, TextError, Thought, ToolChoice, ToolFormat, Tools,
};
use vocabulary::Vocabulary;

struct Want<'a> {
    tools: &'a Tools,
    choice: ToolChoice,
    parallel: bool,
    reasoning: Option<(&'static ReasoningFormat, Thought)>,
    follow_schemas: bool,
}

impl Default for Want<'_> {
    fn default() -> Self {
        Self {
            tools: Box::leak(Box::new(tools().as_ref().clone())),
            choice: ToolChoice::Required,
            parallel: true,
            reasoning: None,
            follow_schemas: true,
        }
    }
}

impl Want<'_> {
    fn grammar(&self, format: &ToolFormat, vocabulary: &Vocabulary) -> Option<String> {
        self.try_grammar(format, vocabulary).unwrap()
    }

    fn try_grammar(
        &self,
        format: &ToolFormat,
        vocabulary: &Vocabulary,
    ) -> Result<Option<String>, TextError> {
        let special_token = |text: &str| vocabulary.special.get(text).copied();
        let request = CallGrammar {
            tools: self.tools,
            choice: &self.choice,
            parallel: self.parallel,
            follow_schemas: self.follow_schemas,
            reasoning: self.reasoning,
            special_token: &special_token,
        };
        format.grammar(&request)
    }
}

fn reasoning(tool_format: &'static ToolFormat) -> &'static ReasoningFormat {
    format(tool_format, true).reasoning_format.unwrap()
}
