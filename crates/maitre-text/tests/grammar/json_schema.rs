//! JSON schemas of the kinds of the public test suite, on the bundled model's tokens.

use maitre_text::grammar::{GrammarError, GrammarSpec, JsonWhitespace};
use serde_json::{Value, json};

use crate::walk::{compile, text, walk};

/// The schemas of the table, with their names, and whether the validator's idea of formats is the grammar's.
fn schemas() -> Vec<(String, Value, bool)> {
    let table: Value = serde_json::from_str(include_str!("schemas.json")).unwrap();
    let rows = table.as_array().unwrap().iter();
    rows.map(|row| {
        let name = row["name"].as_str().unwrap().to_owned();
        (name, row["schema"].clone(), row["formats"] != json!(false))
    })
    .collect()
}

fn spec(schema: &Value, whitespace: JsonWhitespace) -> GrammarSpec {
    GrammarSpec::JsonSchema {
        schema: schema.to_string(),
        whitespace,
    }
}

#[test]
fn every_answer_is_valid() {
    let schemas = schemas();
    assert!(schemas.len() >= 60);
    let mut complete = 0;
    for (name, schema, formats) in &schemas {
        let validator = jsonschema::options()
            .should_validate_formats(*formats)
            .build(schema)
            .unwrap();
        for (seed, whitespace) in [
            (1, JsonWhitespace::Compact),
            (2, JsonWhitespace::Compact),
            (3, JsonWhitespace::Flexible),
        ] {
            let source = compile(&spec(schema, whitespace));
            let source = source.unwrap_or_else(|error| panic!("{name}: {error}"));
            let (tokens, is_complete) = walk(&*source, seed, 120);
            if !is_complete {
                continue;
            }
            complete += 1;
            let text = text(&tokens);
            let value: Value = match serde_json::from_str(&text) {
                Ok(value) => value,
                // JSON has numbers that no float can hold.
                Err(error) if error.to_string().contains("out of range") => continue,
                Err(error) => panic!("{name}: {error}: {text}"),
            };
            let errors: Vec<String> = validator
                .iter_errors(&value)
                .map(|it| it.to_string())
                .collect();
            assert!(errors.is_empty(), "{name}: {text}: {errors:?}");
        }
    }
    assert!(
        complete * 10 >= schemas.len() * 3 * 8,
        "{complete} complete"
    );
}

/// Keywords and formats that are not supported.
fn refused() -> Vec<(&'static str, Value)> {
    vec![
        ("not", json!({"not": {"type": "string"}})),
        (
            "if",
            json!({"if": {"type": "string"}, "then": {"maxLength": 3}}),
        ),
        ("uniqueItems", json!({"type": "array", "uniqueItems": true})),
        (
            "contains",
            json!({"type": "array", "contains": {"type": "null"}}),
        ),
        (
            "minContains",
            json!({"type": "array", "contains": true, "minContains": 2}),
        ),
        ("propertyNames", json!({"propertyNames": {"maxLength": 3}})),
        (
            "dependentRequired",
            json!({"dependentRequired": {"a": ["b"]}}),
        ),
        (
            "dependentSchemas",
            json!({"dependentSchemas": {"a": {"minLength": 3}}}),
        ),
        (
            "unevaluatedProperties",
            json!({"unevaluatedProperties": false}),
        ),
        ("unevaluatedItems", json!({"unevaluatedItems": false})),
        ("$dynamicRef", json!({"$dynamicRef": "#x"})),
        (
            "idn-email",
            json!({"type": "string", "format": "idn-email"}),
        ),
        (
            "json-pointer",
            json!({"type": "string", "format": "json-pointer"}),
        ),
        (
            "oneOf",
            json!({"oneOf": [{"minimum": 3}, {"multipleOf": 2}]}),
        ),
        (
            "patternProperties",
            json!({"patternProperties": {"^\\S.*a$": {"type": "null"}, "^.b": {"type": "integer"}}}),
        ),
        ("x-guidance", json!({"x-guidance": {"lenient": true}})),
    ]
}

/// A number that would come back as another one is refused, wherever it stands.
#[test]
fn numbers_that_are_not_kept_exactly_are_refused() {
    for schema in [
        json!({"const": 9_007_199_254_740_993_u64}),
        json!({"const": {"id": [-9_223_372_036_854_775_807_i64]}}),
        json!({"enum": [1, 1_234_567_890_123_456_789_u64]}),
        json!({"type": "integer", "maximum": i64::MIN}),
        json!({"type": "integer", "minimum": -1e300}),
        json!({"properties": {"id": {"type": "integer", "exclusiveMaximum": u64::MAX}}}),
        json!({"type": "number", "multipleOf": 1e17}),
    ] {
        let refused = compile(&spec(&schema, JsonWhitespace::Flexible));
        let message = refused.map(|_| ()).unwrap_err().to_string();
        assert!(message.contains("kept exactly"), "{schema}: {message}");
    }
    let largest = json!({"enum": [9_007_199_254_740_991_u64, -9_007_199_254_740_991_i64]});
    compile(&spec(&largest, JsonWhitespace::Flexible)).unwrap();
    // Not a bound: what a schema says beside its keywords is not the answer's.
    let beside =
        json!({"type": "integer", "default": u64::MAX, "properties": {"const": {"type": "null"}}});
    compile(&spec(&beside, JsonWhitespace::Flexible)).unwrap();
}

/// Each keyword of the standard that is not supported is refused, by its name and place.
#[test]
fn what_is_not_supported_is_refused_by_name() {
    for (keyword, schema) in refused() {
        let nested = json!({"type": "object", "properties": {"deep": schema}});
        for schema in [&schema, &nested] {
            let Err(refused) = compile(&spec(schema, JsonWhitespace::Flexible)) else {
                panic!("{keyword} is taken");
            };
            assert!(
                matches!(refused, GrammarError::Unsupported { .. }),
                "{keyword}: {refused:?}"
            );
            let message = refused.to_string();
            assert!(message.contains(keyword), "{keyword}: {message}");
        }
    }
    let placed = json!({"properties": {"a": {"items": {"not": {}}}}});
    let message = compile(&spec(&placed, JsonWhitespace::Compact)).unwrap_err();
    assert!(
        message.to_string().contains("#/properties/a/items"),
        "{message}"
    );
}

#[test]
fn what_is_no_schema_is_told_apart() {
    for (text, reason) in [
        ("{", "is not a JSON schema: EOF"),
        ("[1]", "a schema is an object or a boolean"),
        ("false", "no value is valid"),
        (
            r#"{"type": "text"}"#,
            "is not a JSON schema that can be met",
        ),
        (
            r#"{"type": "integer", "minimum": 3, "maximum": 1}"#,
            "can be met",
        ),
        (
            r#"{"$ref": "https://example.com/other"}"#,
            "https://example.com/other",
        ),
        (
            r#"{"type": "string", "pattern": "("}"#,
            "is not a JSON schema that can be met",
        ),
    ] {
        let spec = GrammarSpec::JsonSchema {
            schema: text.to_owned(),
            whitespace: JsonWhitespace::Flexible,
        };
        let message = compile(&spec).unwrap_err().to_string();
        assert!(message.contains(reason), "{text}: {message}");
    }
}

#[test]
fn any_object_is_an_object() {
    for whitespace in [JsonWhitespace::Compact, JsonWhitespace::Flexible] {
        let source = compile(&GrammarSpec::JsonObject { whitespace }).unwrap();
        for seed in 0..5 {
            let (tokens, is_complete) = walk(&*source, seed, 100);
            let text = text(&tokens);
            assert!(text.starts_with('{'), "{text}");
            if is_complete {
                let value: Value = serde_json::from_str(&text).unwrap();
                assert!(value.is_object());
                let is_compact = !text.contains(": ") || text.contains('"');
                assert!(whitespace == JsonWhitespace::Flexible || is_compact);
            }
        }
    }
}

/// The table of the guide says what the tests above have seen. `UPDATE_DOCS=1` writes it.
#[test]
fn the_guide_says_what_is_supported() {
    let path = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../docs/src/guide/structured-output.md"
    );
    let page = std::fs::read_to_string(path).unwrap();
    let (begin, end) = (
        "<!-- begin: written by the test -->\n",
        "<!-- end: written by the test -->",
    );
    let (before, rest) = page.split_once(begin).unwrap();
    let (_, after) = rest.split_once(end).unwrap();
    let written = format!("{before}{begin}{}{end}{after}", table());
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(path, &written).unwrap();
    } else {
        assert!(page == written, "run this test with UPDATE_DOCS=1");
    }
}

fn table() -> String {
    let mut groups: Vec<(String, Vec<String>)> = Vec::new();
    for (name, _, _) in schemas() {
        let (group, case) = name.split_once(": ").unwrap_or((&name, ""));
        if groups.last().is_none_or(|(last, _)| last != group) {
            groups.push((group.to_owned(), Vec::new()));
        }
        if !case.is_empty() {
            groups.last_mut().unwrap().1.push(case.to_owned());
        }
    }
    let refused: Vec<String> = refused()
        .iter()
        .map(|(name, _)| *name)
        .filter(|&name| name != "patternProperties")
        .map(|name| format!("`{name}`"))
        .collect();
    let mut table = "| supported | in these cases |\n|---|---|\n".to_owned();
    for (group, cases) in groups {
        table += &format!("| {group} | {} |\n", cases.join(", "));
    }
    table += &format!(
        "\nRefused by name: {}. A `oneOf` is supported where its options can be told apart, by their types or by a property that \
         is a different constant in each, and `patternProperties` where no name matches two of its patterns. A format that is not in the table is refused.\n",
        refused.join(", ")
    );
    table
}
