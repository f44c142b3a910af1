//! Answers made at random under a grammar, and what every constraint has to keep to on the way.

use std::sync::{Arc, LazyLock};

use maitre_sampling::{Constraint, ConstraintSource, TokenMask};
use maitre_text::Tokenizer;
use maitre_text::grammar::{GrammarCompiler, GrammarError, GrammarSpec};

/// The tokenizer of the bundled model.
pub(crate) static TOKENIZER: LazyLock<Tokenizer> = LazyLock::new(|| {
    let file = |name: &str| {
        let mut files = maitre_bundled::TARGET.files.iter();
        files
            .find(|(file, _)| *file == name)
            .map(|(_, bytes)| *bytes)
    };
    let json = file("tokenizer.json").unwrap();
    Tokenizer::from_bytes(json, file("tokenizer_config.json"), None).unwrap()
});

/// What ends an answer of the bundled model.
pub(crate) static EOS: LazyLock<Vec<u32>> = LazyLock::new(|| {
    let name = TOKENIZER.special_tokens().get("eos_token").unwrap();
    vec![TOKENIZER.token_to_id(name).unwrap()]
});

static COMPILER: LazyLock<GrammarCompiler> =
    LazyLock::new(|| GrammarCompiler::new(&TOKENIZER, TOKENIZER.num_tokens(), &EOS).unwrap());

pub(crate) fn compile(spec: &GrammarSpec) -> Result<Arc<dyn ConstraintSource>, GrammarError> {
    COMPILER.compile(spec)
}

/// Numbers that look random (SplitMix64).
pub(crate) struct Dice(pub(crate) u64);

impl Dice {
    pub(crate) fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((z ^ (z >> 31)) % limit as u64) as usize
    }
}

/// One of the tokens that a mask allows; the shortest of some, so that answers end.
fn pick(mask: &TokenMask, dice: &mut Dice) -> u32 {
    let allowed: Vec<u32> = (0..mask.vocab_size() as u32)
        .filter(|&id| mask.allows(id))
        .collect();
    if let Some(eos) = EOS.iter().find(|&&id| mask.allows(id))
        && dice.below(3) == 0
    {
        return *eos;
    }
    let len = |id: &u32| TOKENIZER.token_bytes(*id).map_or(0, <[u8]>::len);
    let closes = |id: &u32| {
        let bytes = TOKENIZER.token_bytes(*id).unwrap_or_default();
        bytes.iter().any(|byte| b"\"}]".contains(byte))
    };
    let some = (0..4).map(|_| allowed[dice.below(allowed.len())]);
    let mut some: Vec<u32> = some.collect();
    if let Some(close) = allowed.iter().copied().find(closes)
        && dice.below(4) == 0
    {
        some = vec![close];
    }
    some.into_iter().min_by_key(len).unwrap()
}

fn masks(constraint: &mut dyn Constraint, drafts: &[u32]) -> Vec<TokenMask> {
    let mut masks = vec![TokenMask::new(TOKENIZER.num_tokens()); drafts.len() + 1];
    constraint.masks(drafts, &mut masks);
    masks
}

/// An answer of at most `most` tokens, and whether it is complete. Now and then drafts are shown to the constraint, good ones
/// and bad ones, which must change nothing; what is forced must be the only token that is allowed.
pub(crate) fn walk(source: &dyn ConstraintSource, seed: u64, most: usize) -> (Vec<u32>, bool) {
    let mut dice = Dice(seed);
    let (mut constraint, mut plain) = (source.start(), source.start());
    let mut tokens = Vec::new();
    for _ in 0..most {
        let forced = constraint.forced();
        let drafts = match forced.is_empty() {
            false => forced.clone(),
            true => drafts(&mut *constraint, &mut dice),
        };
        let with_drafts = masks(&mut *constraint, &drafts);
        let mask = masks(&mut *plain, &[]).remove(0);
        assert_eq!(with_drafts[0], mask, "after {tokens:?} with {drafts:?}");
        if let Some(first) = forced.first() {
            assert!(mask.allows(*first) && mask.count() == 1, "{forced:?}");
        }
        assert_eq!(constraint.failure(), None);
        if mask.is_empty() {
            assert!(constraint.is_complete() && plain.is_complete());
            return (tokens, true);
        }
        let token = pick(&mask, &mut dice);
        if EOS.contains(&token) {
            assert!(plain.is_complete());
            return (tokens, true);
        }
        tokens.push(token);
        constraint.advance(&[token]);
        plain.advance(&[token]);
    }
    (tokens, plain.is_complete())
}

/// A few tokens that are allowed one behind the other, and perhaps one that is not.
fn drafts(constraint: &mut dyn Constraint, dice: &mut Dice) -> Vec<u32> {
    let mut drafts = Vec::new();
    for _ in 0..dice.below(4) {
        let last = masks(constraint, &drafts).pop().unwrap();
        if last.is_empty() {
            break;
        }
        drafts.push(pick(&last, dice));
    }
    if dice.below(3) == 0 {
        drafts.push(dice.below(TOKENIZER.num_tokens()) as u32);
    }
    drafts
}

/// Writes `text` in the shortest tokens that are allowed: how many bytes of it came, and whether the answer may end there.
pub(crate) fn write(source: &dyn ConstraintSource, text: &str) -> (usize, bool) {
    write_on(&mut *source.start(), text)
}

/// As [`write`], in an answer that has begun.
pub(crate) fn write_on(constraint: &mut dyn Constraint, text: &str) -> (usize, bool) {
    let mut written = 0;
    while written < text.len() {
        let rest = &text.as_bytes()[written..];
        let mask = masks(constraint, &[]).remove(0);
        let fitting = (0..mask.vocab_size() as u32)
            .filter(|&id| mask.allows(id))
            .filter_map(|id| {
                let bytes = TOKENIZER.token_bytes(id).filter(|it| !it.is_empty())?;
                rest.starts_with(bytes).then_some((bytes.len(), id))
            });
        let Some((len, id)) = fitting.min() else {
            break;
        };
        constraint.advance(&[id]);
        written += len;
    }
    (written, constraint.is_complete())
}

pub(crate) fn text(tokens: &[u32]) -> String {
    let bytes = tokens.iter().filter_map(|&id| TOKENIZER.token_bytes(id));
    String::from_utf8_lossy(&bytes.flatten().copied().collect::<Vec<u8>>()).into_owned()
}
