//! Schemas made at random, keywords combined as nothing else combines them: refused, or every answer is valid.

use maitre_text::grammar::{GrammarSpec, JsonWhitespace};
use serde_json::{Map, Value, json};

use crate::walk::{Dice, compile, text, walk};

const NAMES: [&str; 6] = ["a", "b", "n_1", "é", "a\"b", ""];
const PATTERNS: [&str; 10] = [
    "^a",
    "b$",
    "^[a-c]{1,3}$",
    "\\d",
    "^n_",
    "^\\S+$",
    "^.{2}$",
    "[^a]",
    "^\\s*$",
    "^[[a]",
];
const FORMATS: [&str; 10] = [
    "date",
    "time",
    "date-time",
    "duration",
    "email",
    "hostname",
    "ipv4",
    "ipv6",
    "uuid",
    "uri",
];
const STEPS: [f64; 8] = [1.0, 2.0, 7.0, 0.1, 0.25, 0.01, 0.07, 1.5];
const BOUNDS: [f64; 8] = [0.0, -5.0, 3.0, 0.25, 0.35, -1.5, 10.0, 100.0];

fn one_of<T: Clone>(dice: &mut Dice, choices: &[T]) -> T {
    choices[dice.below(choices.len())].clone()
}

fn values(dice: &mut Dice) -> Value {
    let all = [
        json!(null),
        json!(true),
        json!(3),
        json!(0.3),
        json!("a"),
        json!("2024-02-29"),
        json!([1]),
        json!({"a": 1}),
    ];
    let count = 1 + dice.below(3);
    (0..count).map(|_| one_of(dice, &all)).collect()
}

fn schema(dice: &mut Dice, depth: usize) -> Value {
    if depth > 0 && dice.below(16) == 0 {
        return Value::Bool(dice.below(2) == 0);
    }
    let types = [
        json!("string"),
        json!("integer"),
        json!("number"),
        json!("object"),
        json!("array"),
        json!("boolean"),
        json!(["string", "null"]),
        json!(["number", "array"]),
        json!(["object", "integer"]),
    ];
    let mut map = Map::new();
    map.insert("type".to_owned(), one_of(dice, &types));
    for _ in 0..1 + dice.below(5) {
        let (key, value) = keyword(dice, depth);
        map.insert(key.to_owned(), value);
    }
    // Long lists and texts are seldom complete.
    map.entry("maxItems").or_insert(json!(3));
    Value::Object(map)
}

fn keyword(dice: &mut Dice, depth: usize) -> (&'static str, Value) {
    let inner = if depth < 2 { 25 } else { 15 };
    match dice.below(inner) {
        0 => ("minLength", json!(dice.below(4))),
        1 => ("maxLength", json!(dice.below(8))),
        2 => ("pattern", json!(one_of(dice, &PATTERNS))),
        3 => ("format", json!(one_of(dice, &FORMATS))),
        4 => ("minimum", json!(one_of(dice, &BOUNDS))),
        5 => ("maximum", json!(one_of(dice, &BOUNDS))),
        6 => ("exclusiveMinimum", json!(one_of(dice, &BOUNDS))),
        7 => ("exclusiveMaximum", json!(one_of(dice, &BOUNDS))),
        8 => ("multipleOf", json!(one_of(dice, &STEPS))),
        9 => ("minItems", json!(dice.below(3))),
        10 => ("minProperties", json!(dice.below(3))),
        11 => ("maxProperties", json!(dice.below(4))),
        12 => ("enum", values(dice)),
        13 => ("uniqueItems", json!(dice.below(4) == 0)),
        14 => ("required", json!([one_of(dice, &NAMES)])),
        15 => ("items", schema(dice, depth + 1)),
        16 => ("prefixItems", json!([schema(dice, depth + 1)])),
        17 => ("additionalProperties", schema(dice, depth + 1)),
        18 => ("additionalProperties", json!(false)),
        19 => (
            "patternProperties",
            json!({one_of(dice, &PATTERNS): schema(dice, depth + 1)}),
        ),
        20 | 21 => {
            let (one, other) = (one_of(dice, &NAMES), one_of(dice, &NAMES));
            (
                "properties",
                json!({one: schema(dice, depth + 1), other: schema(dice, depth + 1)}),
            )
        }
        22 => (
            "anyOf",
            json!([schema(dice, depth + 1), schema(dice, depth + 1)]),
        ),
        23 => ("allOf", json!([schema(dice, depth + 1)])),
        _ => ("contains", json!(true)),
    }
}

#[test]
fn every_answer_to_a_random_schema_is_valid() {
    let mut dice = Dice(1);
    let (mut compiled, mut complete) = (0, 0);
    for _ in 0..600 {
        let schema = schema(&mut dice, 0);
        let spec = GrammarSpec::JsonSchema {
            schema: schema.to_string(),
            whitespace: JsonWhitespace::Compact,
        };
        let Ok(source) = compile(&spec) else { continue };
        compiled += 1;
        let options = jsonschema::options().should_validate_formats(true);
        let validator = options.build(&schema).unwrap();
        for seed in 0..4 {
            let (tokens, is_complete) = walk(&*source, seed, 40);
            if is_complete {
                complete += 1;
                let text = text(&tokens);
                match serde_json::from_str::<Value>(&text) {
                    Ok(value) => assert!(validator.is_valid(&value), "{schema}: {text}"),
                    Err(error) => assert!(
                        error.to_string().contains("out of range"),
                        "{error}: {text}"
                    ),
                }
            }
        }
    }
    assert!(
        compiled > 200 && complete > 800,
        "{compiled} compiled, {complete} complete"
    );
}
