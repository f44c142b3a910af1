//! Fields that clients know and that this server cannot honour: a request with one is refused by the field's name
//! rather than answered as if it were not there.

use serde::Deserialize;

use super::json::{self, IsGiven};
use crate::service::api_error::ApiError;
use crate::service::violations::Violations;

macro_rules! unsupported {
    ($($field:ident: $why:literal,)*) => {
        /// The fields, as far as they are given something.
        #[derive(Debug, Default, Deserialize)]
        #[serde(default)]
        pub(super) struct Unsupported {
            $($field: IsGiven,)*
        }

        #[cfg(test)]
        const NAMES: &[&str] = &[$(stringify!($field),)*];

        impl Unsupported {
            /// Refuses those that are given.
            fn check(&self, found: &mut Violations) {
                $(if self.$field.0 {
                    found.add(stringify!($field), concat!("is not supported here; ", $why));
                })*
            }
        }
    };
}

unsupported! {
    allowed_token_ids: "leave it out, or use logit_bias",
    audio: "this server answers in text",
    bad_words: "leave it out, or use logit_bias",
    chat_template: "the model's own template is used; leave it out",
    early_stopping: "leave it out: there is no beam search",
    function_call: "use tool_choice",
    functions: "use tools",
    kv_transfer_params: "leave it out",
    logits_processors: "leave it out",
    mm_processor_kwargs: "leave it out: messages are text",
    prediction: "leave it out",
    prompt_embeds: "give the prompt as text or token ids",
    repetition_detection: "leave it out",
    suffix: "leave it out: the text after the answer can't be given",
    use_beam_search: "ask for several answers with n",
    vllm_xargs: "leave it out",
    web_search_options: "leave it out",
}

impl Unsupported {
    /// Refuses what cannot be honoured in a message for `n` answers. Where something is of the wrong type, here or in
    /// what was `found` before, the message is refused with that: what follows from it is not looked for.
    ///
    /// # Errors
    ///
    /// A field has the wrong type, or there is no message.
    pub(super) fn check_all(
        message: &[u8],
        n: u32,
        found: &mut Violations,
    ) -> Result<(), ApiError> {
        let partly: PartlySupported = json::group(message, found)?;
        let has_wrong_types = !found.is_empty();
        json::group::<Self>(message, found)?.check(found);
        if has_wrong_types {
            return Err(ApiError::invalid(std::mem::take(found).into_vec()));
        }
        partly.check(n, found);
        Ok(())
    }
}

/// What is known of more fields, of which some values are fine.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct PartlySupported {
    best_of: Option<u32>,
    length_penalty: Option<f64>,
    modalities: Option<Vec<String>>,
}

impl PartlySupported {
    /// Refuses the values that cannot be honoured by a request for `n` answers.
    fn check(&self, n: u32, found: &mut Violations) {
        if let Some(best_of) = self.best_of
            && best_of != n
        {
            let description = format!("is {best_of} and n is {n}; answers are not chosen among");
            found.add("best_of", description);
        }
        if let Some(penalty) = self.length_penalty
            && penalty != 1.0
        {
            found.add(
                "length_penalty",
                "is not supported here: there is no beam search",
            );
        }
        let mut modalities = self.modalities.iter().flatten().enumerate();
        if let Some((at, other)) = modalities.find(|(_, it)| *it != "text") {
            let description = format!("is {other:?}; this server answers in text");
            found.add(format!("modalities[{at}]"), description);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_given_is_refused_and_what_says_nothing_is_not() {
        let found = |value: &str| {
            let fields: Vec<String> = NAMES
                .iter()
                .map(|it| format!("\"{it}\": {value}"))
                .collect();
            let message = format!("{{{}}}", fields.join(", "));
            let mut found = Violations::default();
            let given: Unsupported = json::fields(message.as_bytes()).unwrap();
            given.check(&mut found);
            found
                .fields()
                .into_iter()
                .map(str::to_owned)
                .collect::<Vec<_>>()
        };
        assert!(NAMES.len() > 10);
        for given in ["1", "-1", "0.5", "true", "\"x\"", "[1]", "{\"a\": []}"] {
            assert_eq!(found(given), NAMES, "{given}");
        }
        for nothing in ["null", "0", "false", "\"\"", "[]", "{}"] {
            assert!(found(nothing).is_empty(), "{nothing}");
        }
    }
}
