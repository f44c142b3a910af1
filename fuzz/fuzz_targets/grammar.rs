//! Schemas, regular expressions and grammars as requests send them: refused or compiled within bounds, and what may come is a way
//! to an end.
#![no_main]

use std::sync::LazyLock;
use std::time::{Duration, Instant};

use libfuzzer_sys::fuzz_target;
use maitre_fuzz::{Dice, Input, TOKENIZER};
use maitre_sampling::{Constraint, TokenMask};
use maitre_text::grammar::{GrammarCompiler, GrammarSpec, JsonWhitespace, StructuralTag, Tag};
use serde_json::Value;

/// What a compilation may take: far more than it takes on an idle machine without instrumentation.
const LONGEST: Duration = Duration::from_secs(60);
const STEPS: usize = 24;

static EOS: LazyLock<Vec<u32>> = LazyLock::new(|| {
    let name = TOKENIZER.special_tokens().get("eos_token").expect("an end");
    vec![TOKENIZER.token_to_id(name).expect("a token")]
});
static COMPILER: LazyLock<GrammarCompiler> = LazyLock::new(|| {
    GrammarCompiler::new(&TOKENIZER, TOKENIZER.num_tokens(), &EOS).expect("a compiler")
});

fn spec(input: &mut Input<'_>) -> GrammarSpec {
    let kind = input.byte();
    let whitespace = match kind & 8 {
        0 => JsonWhitespace::Compact,
        _ => JsonWhitespace::Flexible,
    };
    match kind % 8 {
        // Most of what can go wrong is in schemas.
        0..=2 => GrammarSpec::JsonSchema {
            schema: input.text(),
            whitespace,
        },
        3 => GrammarSpec::Regex(input.text()),
        4 => GrammarSpec::Grammar(input.text()),
        5 => GrammarSpec::Llguidance(input.text()),
        6 => GrammarSpec::Choice(input.text().lines().map(str::to_owned).collect()),
        _ => {
            let (begin, end, trigger) = (input.text(), input.text(), input.text());
            GrammarSpec::StructuralTag(StructuralTag {
                tags: vec![Tag {
                    begin,
                    schema: input.text(),
                    end,
                }],
                triggers: vec![trigger],
            })
        }
    }
}

fn mask(constraint: &mut dyn Constraint) -> TokenMask {
    let mut masks = vec![TokenMask::new(TOKENIZER.num_tokens())];
    constraint.masks(&[], &mut masks);
    masks.remove(0)
}

/// One of the tokens that a mask allows, the shortest of some.
fn pick(mask: &TokenMask, dice: &mut Dice) -> u32 {
    let allowed: Vec<u32> = (0..mask.vocab_size() as u32)
        .filter(|&id| mask.allows(id))
        .collect();
    if let Some(eos) = EOS.iter().find(|&&id| mask.allows(id)) {
        return *eos;
    }
    let some = (0..4).map(|_| allowed[dice.below(allowed.len())]);
    some.min_by_key(|&id| TOKENIZER.token_bytes(id).map_or(0, <[u8]>::len))
        .expect("four")
}

fuzz_target!(|data: &[u8]| {
    let mut input = Input(data);
    let mut dice = Dice(u64::from(input.byte()));
    let spec = spec(&mut input);
    let begun = Instant::now();
    let compiled = COMPILER.compile(&spec);
    assert!(
        begun.elapsed() < LONGEST,
        "compiling took {:?}",
        begun.elapsed()
    );
    let source = match compiled {
        Ok(source) => source,
        Err(refused) => {
            // A message is for people: it doesn't repeat what was sent.
            assert!(refused.to_string().len() < 4096, "{refused}");
            return;
        }
    };
    let mut constraint = source.start();
    let mut bytes = Vec::new();
    for step in 0..STEPS {
        let forced = constraint.forced();
        let begun = Instant::now();
        let mask = mask(&mut *constraint);
        assert!(
            begun.elapsed() < LONGEST,
            "a mask took {:?}",
            begun.elapsed()
        );
        if constraint.failure().is_some() {
            return;
        }
        if let Some(first) = forced.first() {
            assert!(
                mask.allows(*first) && mask.count() == 1,
                "{forced:?} is not forced"
            );
        }
        if mask.is_empty() {
            assert!(
                constraint.is_complete(),
                "stuck after {step} tokens: {bytes:?}"
            );
            break;
        }
        let token = pick(&mask, &mut dice);
        if EOS.contains(&token) {
            assert!(
                constraint.is_complete(),
                "the end is allowed where nothing is complete"
            );
            break;
        }
        bytes.extend_from_slice(TOKENIZER.token_bytes(token).unwrap_or_default());
        constraint.advance(&[token]);
    }
    if constraint.is_complete() && matches!(spec, GrammarSpec::JsonSchema { .. }) {
        let read = serde_json::from_slice::<Value>(&bytes);
        let is_out_of_range =
            |error: &serde_json::Error| error.to_string().contains("out of range");
        if let Err(error) = read.as_ref().map_err(|it| (it, is_out_of_range(it))) {
            assert!(
                error.1,
                "{}: {:?}",
                error.0,
                String::from_utf8_lossy(&bytes)
            );
        }
    }
});
