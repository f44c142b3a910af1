//! Tokens to propose from: the bundled held-out chats, and numbers without any sense.

use anyhow::{Context, Result};
use maitre_text::Tokenizer;

/// The bundled model's tokenizer, of 4096 tokens.
///
/// # Errors
///
/// If it can't be read.
pub fn tokenizer() -> Result<Tokenizer> {
    let file = maitre_bundled::TARGET.file("tokenizer.json");
    let bytes = file.context("the bundled model has no tokenizer.json")?;
    Ok(Tokenizer::from_bytes(bytes, None, None)?)
}

/// Numbers that look drawn at random, and are the same each time (SplitMix64, Steele et al. 2014).
pub fn random(seed: u64) -> impl Iterator<Item = u64> {
    (1..).map(move |at: u64| {
        let mut bits = seed.wrapping_add(at.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        bits ^ (bits >> 31)
    })
}

/// `count` tokens below `vocab` that follow no rule.
#[must_use]
pub fn random_tokens(count: usize, vocab: u32) -> Vec<u32> {
    let tokens = random(7).map(|bits| (bits % u64::from(vocab)) as u32);
    tokens.take(count).collect()
}

/// `tokens`, repeated with a change to one in `every`: by turns one token is replaced, one is left out, and one
/// is added.
#[must_use]
pub fn edited(tokens: &[u32], every: u64) -> Vec<u32> {
    let mut edited = Vec::with_capacity(tokens.len());
    let mut edits = (0..3).cycle();
    for (&token, bits) in tokens.iter().zip(random(11)) {
        let other = tokens[(bits >> 32) as usize % tokens.len()];
        let edit = (bits % every == 0).then(|| edits.next()).flatten();
        match edit {
            None => edited.push(token),
            Some(0) => edited.push(other),
            Some(1) => {}
            Some(_) => edited.extend([other, token]),
        }
    }
    edited
}
