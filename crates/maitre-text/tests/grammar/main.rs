//! Grammars from the outside: what comes is what was asked for, whatever the tokens are drafted from; what cannot be had
//! is refused by name, and what is too much in bounded time.
#![allow(clippy::unwrap_used, missing_docs)]

mod walk;

use maitre_text::grammar::{GrammarError, GrammarSpec, JsonWhitespace};

use walk::{compile, text, walk};

fn schema(schema: &str) -> GrammarSpec {
    GrammarSpec::JsonSchema {
        schema: schema.to_owned(),
        whitespace: JsonWhitespace::Compact,
    }
}

#[test]
fn a_schema_makes_json() {
    let given = r#"{"type":"object","properties":{"name":{"type":"string","maxLength":10},"age":{"type":"integer","minimum":0,"maximum":120}},"required":["name","age"],"additionalProperties":false}"#;
    let source = compile(&schema(given)).unwrap();
    let validator = jsonschema::validator_for(&serde_json::from_str(given).unwrap()).unwrap();
    for seed in 0..20 {
        let (tokens, is_complete) = walk(&*source, seed, 200);
        let text = text(&tokens);
        println!("{text}");
        assert!(is_complete);
        let value = serde_json::from_str(&text).unwrap();
        assert!(validator.is_valid(&value), "{text}");
    }
}
