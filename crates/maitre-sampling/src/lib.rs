//! The meaning of sampling parameters: a row of logits becomes a token.
