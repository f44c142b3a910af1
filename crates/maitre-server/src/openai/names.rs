//! The engine's names of fields in those of OpenAI's messages.

use crate::service::api_error::ApiError;

/// How a message names what the engine finds wrong.
#[derive(Debug, Clone, Copy)]
pub(super) struct Names {
    /// `max_tokens` or `max_completion_tokens`, whichever the client sent.
    pub(super) max_tokens: &'static str,
    /// `logprobs` or `top_logprobs`.
    pub(super) logprobs: &'static str,
    /// Whether `stop` is one text.
    pub(super) stop_is_one: bool,
    /// `prompt` or `messages`.
    pub(super) input: &'static str,
    /// Whether the input is a list of prompts.
    pub(super) is_list: bool,
    /// What says what the answer has to be like.
    pub(super) form: &'static str,
}

impl Names {
    /// The name here of the engine's field `field` of the request for prompt `prompt`.
    pub(super) fn of(&self, field: &str, prompt: usize) -> String {
        let input = || match self.is_list {
            true => format!("{}[{prompt}]", self.input),
            false => self.input.to_owned(),
        };
        match field {
            "stopping.max_tokens" => return self.max_tokens.to_owned(),
            "output.logprobs" => return self.logprobs.to_owned(),
            "stopping.stop[0]" if self.stop_is_one => return "stop".to_owned(),
            "stopping.include_stop" => return "include_stop_str_in_output".to_owned(),
            "cache.salt" => return "cache_salt".to_owned(),
            "template_kwargs" => return "chat_template_kwargs".to_owned(),
            "input" => return input(),
            _ => {}
        }
        if field == "grammar" || field.starts_with("grammar.") {
            return self.form.to_owned();
        }
        for given in ["input.text", "input.token_ids"] {
            if let Some(rest) = field.strip_prefix(given) {
                // The ids of a conversation's tokens are not the client's.
                let rest = if self.input == "prompt" { rest } else { "" };
                return input() + rest;
            }
        }
        for group in ["sampling.", "stopping.", "output.", "service.", "parts."] {
            if let Some(name) = field.strip_prefix(group) {
                return name.to_owned();
            }
        }
        field.to_owned()
    }

    /// The same failure, its fields as the client knows them.
    pub(super) fn rename(&self, mut error: ApiError, prompt: usize) -> ApiError {
        if error.violations.is_empty() {
            return error;
        }
        for violation in &mut error.violations {
            violation.field = self.of(&violation.field, prompt);
        }
        if error.reason == "INVALID_REQUEST" {
            // Its message lists the fields.
            return ApiError::invalid(error.violations);
        }
        error
    }
}

/// The fields of a call keep the engine's names until [`Names::rename`].
pub(super) fn engine_names(field: &str) -> String {
    field.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_have_the_names_that_the_client_wrote() {
        let names = Names {
            max_tokens: "max_tokens",
            logprobs: "logprobs",
            stop_is_one: false,
            input: "prompt",
            is_list: true,
            form: "structured_outputs.regex",
        };
        for (engine, here) in [
            ("sampling.temperature", "temperature"),
            ("sampling.logit_bias[3]", "logit_bias[3]"),
            ("stopping.stop[0]", "stop[0]"),
            ("output.prompt_logprobs", "prompt_logprobs"),
            ("service.priority", "priority"),
            ("input.token_ids[7]", "prompt[2][7]"),
            ("input.text", "prompt[2]"),
            ("grammar.regex", "structured_outputs.regex"),
            ("n", "n"),
            ("request_id", "request_id"),
        ] {
            assert_eq!(names.of(engine, 2), here);
        }
        let chat = Names {
            max_tokens: "max_completion_tokens",
            logprobs: "top_logprobs",
            stop_is_one: true,
            input: "messages",
            is_list: false,
            form: "response_format",
        };
        for (engine, here) in [
            ("stopping.max_tokens", "max_completion_tokens"),
            ("output.logprobs", "top_logprobs"),
            ("stopping.stop[0]", "stop"),
            ("messages[1]", "messages[1]"),
            ("input.token_ids[7]", "messages"),
        ] {
            assert_eq!(chat.of(engine, 0), here);
        }
    }
}
