//! How much there is to a request, counted before anything is made of it.
//!
//! Two bytes of a message may be a tool call, of which a template gets an object of a kilobyte. What can't be part of a
//! request is therefore refused while it is still a message: a conversation far larger than the context, and lists far
//! longer than allowed. Closer to their bounds the engine is exact.

use maitre_engine::limits::{
    MAX_CHOICES, MAX_LOGIT_BIAS, MAX_PROMPT_BYTES_PER_TOKEN, MAX_STOP_STRINGS, MAX_STOP_TOKEN_IDS,
};

use crate::service::violations::Violations;

/// Counted for a message, tool or tool call, as the engine does.
pub(crate) const ITEM_BYTES: usize = 64;
/// Bytes of JSON that may stand for one byte of text: an escape like `\u0041`.
const JSON_BYTES_PER_BYTE: usize = 6;
/// Lists this many times as long as allowed are not made at all.
const FAR_TOO_LONG: usize = 16;

/// At least what the values of a JSON text take.
pub(crate) fn json_bytes(text: &str) -> usize {
    let written = text.bytes().filter(|byte| !byte.is_ascii_whitespace());
    written.count() / JSON_BYTES_PER_BYTE
}

/// What there is to a request.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct RequestSize {
    /// Bytes of its conversation, no more than the engine will count; 0 without one.
    pub(crate) conversation_bytes: usize,
    /// How many stop strings, stop tokens and biases of tokens it has.
    pub(crate) stop_strings: usize,
    pub(crate) stop_token_ids: usize,
    pub(crate) logit_biases: usize,
    /// Texts that its answers choose from.
    pub(crate) choices: usize,
}

impl RequestSize {
    /// What is wrong with a request that is not worth converting for a context of so many tokens; empty if it is. The
    /// fields have the engine's names.
    pub(crate) fn oversize(&self, context: usize) -> Violations {
        let mut found = Violations::default();
        let bytes = self.conversation_bytes;
        if bytes > context.saturating_mul(MAX_PROMPT_BYTES_PER_TOKEN) {
            let more =
                format!("has {bytes} bytes, far more than a context of {context} tokens holds");
            found.add("messages", more);
        }
        for (field, what, length, most) in [
            (
                "stopping.stop",
                "strings",
                self.stop_strings,
                MAX_STOP_STRINGS,
            ),
            (
                "stopping.stop_token_ids",
                "ids",
                self.stop_token_ids,
                MAX_STOP_TOKEN_IDS,
            ),
            (
                "sampling.logit_bias",
                "entries",
                self.logit_biases,
                MAX_LOGIT_BIAS,
            ),
            ("grammar.choice", "texts", self.choices, MAX_CHOICES),
        ] {
            if length > most * FAR_TOO_LONG {
                let description = format!("has {length} {what}; at most {most} are allowed");
                found.add(field, description);
            }
        }
        found
    }
}
