//! The grammar walked at random: whatever it accepts, the parser reads as calls that fit the tools' schemas.

use maitre_text::{AnswerFormat, Thought, ToolChoice, ToolFormat};
use proptest::prelude::*;
use serde_json::Value;

use crate::formats::{format, parse};
use crate::vocabulary::Vocabulary;
use crate::{Want, reasoning};

/// What ends texts, so that a random walk gets somewhere.
const CLOSERS: &[&str] = &[
    "\"",
    "</parameter>",
    "</arg_value>",
    "</｜DSML｜parameter>",
    "<|\"|>",
    "<escape>",
    "</think>",
    "<|end|>",
    "[/THINK]",
    "</seed:think>",
    "<channel|>",
    "}",
    "]",
];

/// Walks the grammar at random to an end; nothing if it finds none.
fn walk(
    vocabulary: &Vocabulary,
    grammar: &str,
    choices: &mut impl Iterator<Item = usize>,
) -> Option<String> {
    let mut matcher = vocabulary.matcher(grammar);
    let mut tokens = Vec::new();
    for _ in 0..600 {
        let choice = choices.next()?;
        if matcher.is_stopped() {
            break;
        }
        let mask = matcher.compute_mask().unwrap();
        let allowed: Vec<u32> = mask
            .iter()
            .filter(|&token| !(0x80..=0xFF).contains(&token))
            .collect();
        if mask.is_allowed(vocabulary.end) && (choice % 3 == 0 || allowed.len() <= 1) {
            return Some(vocabulary.text(&tokens));
        }
        let allowed: Vec<u32> = allowed
            .into_iter()
            .filter(|&token| token != vocabulary.end)
            .collect();
        if allowed.len() > 20 && choice % 2 == 0 {
            let closer = vocabulary.tokens(CLOSERS[choice / 2 % CLOSERS.len()]);
            if matcher.validate_tokens(&closer).unwrap() == closer.len() {
                matcher.consume_tokens(&closer).unwrap();
                tokens.extend(closer);
                continue;
            }
        }
        let token = *allowed.get(choice % allowed.len().max(1))?;
        matcher.consume_token(token).unwrap();
        tokens.push(token);
    }
    matcher
        .is_accepting()
        .unwrap()
        .then(|| vocabulary.text(&tokens))
}

/// Numbers at random, as SplitMix64 makes them.
fn random(seed: u64) -> impl Iterator<Item = usize> {
    (1..).map(move |step: u64| {
        let mut z = seed.wrapping_add(step.wrapping_mul(0x9E37_79B9_7F4A_7C15));
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        usize::try_from((z ^ (z >> 31)) >> 8).unwrap_or(0)
    })
}

/// Whether arguments fit the schema of [`tools`](crate::formats::tools).
fn fits(name: &str, arguments: &Value) -> bool {
    let arguments = arguments.as_object().unwrap();
    if name == "now" {
        return true;
    }
    arguments.contains_key("city")
        && arguments.iter().all(|(key, value)| match key.as_str() {
            "city" => value.is_string(),
            "days" => {
                value.is_i64()
                    || value.is_u64()
                    || value.as_f64().is_some_and(|days| days.fract() == 0.0)
            }
            "wind" => value.is_number(),
            "metric" => value.is_boolean(),
            "hours" => value.is_array(),
            "place" => value.is_object(),
            "note" => value.is_string() || value.is_null(),
            "unit" => value == "celsius" || value == "kelvin",
            _ => false,
        })
}

fn any_format() -> impl Strategy<Value = &'static ToolFormat> {
    prop::sample::select(ToolFormat::all().collect::<Vec<_>>())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(600))]

    #[test]
    fn what_the_grammar_accepts_is_a_call(
        tool_format in any_format(),
        special in any::<bool>(),
        thought in prop::sample::select(&[None, Some(Thought::Open), Some(Thought::Unopened), Some(Thought::Closed)]),
        named in any::<bool>(),
        parallel in any::<bool>(),
        seed in any::<u64>(),
    ) {
        let reasoning = reasoning(tool_format);
        let vocabulary = Vocabulary::of(tool_format, reasoning, special);
        let want = Want {
            choice: if named { ToolChoice::Named("get_weather".into()) } else { ToolChoice::Required },
            parallel,
            reasoning: thought.map(|thought| (reasoning, thought)),
            ..Want::default()
        };
        let grammar = want.grammar(tool_format, &vocabulary).unwrap();
        let Some(text) = walk(&vocabulary, &grammar, &mut random(seed)) else {
            return Ok(());
        };
        let format = AnswerFormat { thought: thought.unwrap_or_default(), ..format(tool_format, true) };
        let answer = parse(format, [text.as_str()]);
        prop_assert_eq!(&answer.text, "", "{} {:?}\n{}", tool_format.name, text, grammar);
        prop_assert!(!answer.calls.is_empty(), "{} {:?}", tool_format.name, text);
        prop_assert!(parallel || answer.calls.len() == 1, "{:?}", text);
        // JSON has numbers that no program can read, such as 1e999.
        let too_large = |(_, arguments): &(String, String)| {
            let error = serde_json::from_str::<Value>(arguments).err();
            error.is_some_and(|error| error.to_string().contains("out of range"))
        };
        if answer.calls.iter().any(too_large) {
            return Ok(());
        }
        for (name, arguments) in answer.read_calls() {
            prop_assert!(!named || name == "get_weather");
            prop_assert!(fits(&name, &arguments), "{} {:?} {}", tool_format.name, text, arguments);
        }
    }
}

/// Of random walks, enough come to an end for the property above to say something of every format.
#[test]
fn walks_come_to_an_end() {
    for tool_format in ToolFormat::all() {
        let reasoning = reasoning(tool_format);
        let vocabulary = Vocabulary::of(tool_format, reasoning, true);
        let grammar = Want::default().grammar(tool_format, &vocabulary).unwrap();
        let walks = (0..40).filter_map(|seed| walk(&vocabulary, &grammar, &mut random(seed)));
        let num = walks.filter(|text| text.contains("get_weather")).count();
        assert!(num >= 4, "{}: {num}", tool_format.name);
    }
}
