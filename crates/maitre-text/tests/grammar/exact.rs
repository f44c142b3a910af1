//! What comes is valid once it is read, and keywords that say nothing are taken.

use maitre_text::grammar::{GrammarSpec, JsonWhitespace};
use serde_json::{Value, json};

use crate::walk::{compile, text, walk, write};

fn spec(schema: &Value) -> GrammarSpec {
    GrammarSpec::JsonSchema {
        schema: schema.to_string(),
        whitespace: JsonWhitespace::Compact,
    }
}

/// Whether a text is an answer.
fn takes(schema: &Value, answer: &str) -> bool {
    let source = compile(&spec(schema)).unwrap_or_else(|error| panic!("{schema}: {error}"));
    let (written, is_complete) = write(&*source, answer);
    written == answer.len() && is_complete
}

/// Answers at random are valid, and some are complete.
fn check_answers(schema: &Value, seeds: u64) {
    let options = jsonschema::options().should_validate_formats(true);
    let validator = options.build(schema).unwrap();
    let source = compile(&spec(schema)).unwrap_or_else(|error| panic!("{schema}: {error}"));
    let mut complete = 0;
    for seed in 0..seeds {
        let (tokens, is_complete) = walk(&*source, seed, 60);
        if is_complete {
            complete += 1;
            let text = text(&tokens);
            let value = serde_json::from_str(&text).unwrap();
            assert!(validator.is_valid(&value), "{schema}: {text}");
        }
    }
    assert!(complete > 0, "{schema}");
}

/// Texts of each format: valid ones, and others.
const TEXTS: [(&str, &[&str], &[&str]); 10] = [
    (
        "date",
        &["2024-02-29", "2000-02-29", "1999-12-31", "0001-01-01"],
        &[
            "2023-02-29",
            "1900-02-29",
            "2023-04-31",
            "2023-13-01",
            "0000-01-01",
            "2023-1-1",
        ],
    ),
    (
        "time",
        &["00:00:00Z", "23:59:60Z", "12:30:01.25+05:30"],
        &[
            "24:00:00Z",
            "12:59:60Z",
            "23:59:60+01:00",
            "12:30:01",
            "12:30Z",
        ],
    ),
    (
        "date-time",
        &[
            "2024-02-29T12:00:00Z",
            "2016-12-31T23:59:60Z",
            "1990-01-01t00:00:00.5-08:00",
        ],
        &[
            "2023-02-29T12:00:00Z",
            "2016-12-31T22:59:60Z",
            "2024-01-01 00:00:00Z",
        ],
    ),
    (
        "duration",
        &["P1Y2M3DT4H5M6S", "PT0S", "P4W", "P1DT12H"],
        &["P", "PT", "P1Y1D", "P1W1D", "1D", "PT1H1S", "P1DT"],
    ),
    (
        "email",
        &["jane.doe+tag@example.com", "a@b", "x@[127.0.0.1]"],
        &[
            "jane",
            "@b",
            "a@",
            "a..b@c",
            ".a@b",
            "a@-b",
            "a@b_c",
            "a@[1.2.3]",
        ],
    ),
    (
        "hostname",
        &["localhost", "a-b.example.com", "1a.de", "a.b.c.d.e.f.g"],
        &["-a", "a-", "a..b", "a.", "ab--c", "xn--x", "a_b", "a b"],
    ),
    (
        "ipv4",
        &["0.0.0.0", "255.249.199.99"],
        &["256.0.0.1", "01.2.3.4", "1.2.3"],
    ),
    (
        "ipv6",
        &[
            "::",
            "::1",
            "1::",
            "1:2:3:4:5:6:7:8",
            "1:2:3:4:5:6:7::",
            "::2:3:4:5:6:7:8",
            "fe80::1:2",
        ],
        &[
            "1",
            ":::",
            "1::2::3",
            "1:2:3:4:5:6:7",
            "12345::",
            "1:2:3:4:5:6:7:8:9",
        ],
    ),
    (
        "uuid",
        &["123e4567-E89b-12d3-a456-426614174000"],
        &[
            "123e4567e89b12d3a456426614174000",
            "123e4567-e89b-12d3-a456-42661417400g",
        ],
    ),
    (
        "uri",
        &[
            "https://u@example.com:80/a/b?c=d#e",
            "mailto:a@b.c",
            "http://[::1]/",
            "urn:a:b",
            "a:",
        ],
        &[
            "//a",
            "/a",
            "1a:b",
            "http://a b",
            "http://[1]",
            "a:%g0",
            "http://a:b/",
        ],
    ),
];

#[test]
fn formats_are_those_of_the_validator() {
    for (format, valid, invalid) in TEXTS {
        let schema = json!({"type": "string", "format": format});
        let options = jsonschema::options().should_validate_formats(true);
        let validator = options.build(&schema).unwrap();
        for text in valid {
            assert!(validator.is_valid(&json!(text)), "{format}: {text}");
            assert!(takes(&schema, &json!(text).to_string()), "{format}: {text}");
        }
        for text in invalid {
            assert!(
                !takes(&schema, &json!(text).to_string()),
                "{format}: {text}"
            );
        }
        check_answers(&schema, 40);
        let short = json!({"type": "string", "format": format, "maxLength": 40, "minLength": 2});
        check_answers(&short, 20);
    }
    let label = "a".repeat(63);
    let host = json!({"format": "hostname"});
    assert!(takes(&host, &format!("\"{label}.{label}\"")));
    assert!(!takes(&host, &format!("\"{label}a\"")));
    let email = json!({"format": "email"});
    assert!(
        takes(&email, &format!("\"a{label}@b\"")) && !takes(&email, &format!("\"aa{label}@b\""))
    );
}

#[test]
fn a_format_and_a_pattern_both_hold() {
    let schema = json!({"type": "string", "format": "email", "pattern": "@example\\.com$"});
    assert!(takes(&schema, "\"jane@example.com\""));
    assert!(!takes(&schema, "\"jane@example.org\"") && !takes(&schema, "\"..@example.com\""));
    let either = json!({"type": ["string", "integer"], "format": "date"});
    assert!(takes(&either, "20230229") && !takes(&either, "\"2023-02-29\""));
}

#[test]
fn multiples_are_counted_as_decimal_numbers() {
    for (schema, valid, invalid) in [
        (
            json!({"type": "number", "multipleOf": 0.1, "minimum": 0.25, "maximum": 0.35}),
            "0.3",
            "0.2",
        ),
        (
            json!({"type": "number", "multipleOf": 0.07, "minimum": 0, "maximum": 1}),
            "0.98",
            "0.97",
        ),
        (
            json!({"multipleOf": 0.1, "minimum": 0.25, "maximum": 100.35}),
            "100.3",
            "0.2",
        ),
        (
            json!({"multipleOf": 0.1, "enum": [0.1, 0.3, 0.35]}),
            "0.3",
            "0.35",
        ),
        (
            json!({"allOf": [{"multipleOf": 0.1}, {"minimum": 0.25, "maximum": 0.35}]}),
            "\"a\"",
            "0.4",
        ),
        (
            json!({"type": "integer", "multipleOf": 0.5, "minimum": 1, "maximum": 2}),
            "2",
            "1.5",
        ),
        (
            json!({"type": "integer", "multipleOf": 7}),
            "-14",
            "14000000000000000000",
        ),
        (
            json!({"type": ["number", "null"], "multipleOf": 0.01, "minimum": 0, "maximum": 1}),
            "null",
            "0.001",
        ),
    ] {
        assert!(
            takes(&schema, valid) && !takes(&schema, invalid),
            "{schema}"
        );
        check_answers(&schema, 30);
    }
    let none = json!({"type": "number", "multipleOf": 0.1, "minimum": 0.31, "maximum": 0.39});
    let message = compile(&spec(&none)).map(|_| ()).unwrap_err().to_string();
    assert!(message.contains("can be met"), "{message}");
    let nested = json!({"type": "object", "properties": {"a": none}, "required": ["a"]});
    assert!(compile(&spec(&nested)).is_err());
    let refused = compile(&spec(&json!({"multipleOf": 0.07}))).map(|_| ());
    assert!(
        refused
            .unwrap_err()
            .to_string()
            .contains("multipleOf 0.07 at #")
    );
}

#[test]
fn a_bound_that_is_left_out_is_no_answer() {
    for (schema, valid, invalid) in [
        (
            json!({"type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 0.5}),
            "0.25",
            "0",
        ),
        (
            json!({"type": "number", "exclusiveMinimum": 3, "maximum": 3.5}),
            "3.5",
            "3.0",
        ),
        (
            json!({"type": "number", "minimum": -0.5, "exclusiveMaximum": 0}),
            "-0.5",
            "-0",
        ),
        (
            json!({"allOf": [{"exclusiveMinimum": 0}, {"maximum": 0.5}]}),
            "\"a\"",
            "0",
        ),
        (
            json!({"type": "integer", "exclusiveMinimum": 0, "exclusiveMaximum": 2}),
            "1",
            "0",
        ),
    ] {
        assert!(
            takes(&schema, valid) && !takes(&schema, invalid),
            "{schema}"
        );
        check_answers(&schema, 30);
    }
}

/// Patterns are ECMA-262's.
#[test]
fn patterns_are_read_as_the_standard_says() {
    for (pattern, valid, invalid) in [
        ("^a.b$", "\"a\u{85}b\"", "\"a\u{2028}b\""),
        ("^\\s$", "\"\u{feff}\"", "\"\u{85}\""),
        ("^[^\\s]$", "\"\u{85}\"", "\" \""),
        ("^[[a]$", "\"[\"", "\"b\""),
        ("^[a&&b]$", "\"&\"", "\"c\""),
        ("^[a-z]+@[\\w.-]+\\.\\w{2,}$", "\"a@b.de\"", "\"a@b\""),
    ] {
        let schema = json!({"type": "string", "pattern": pattern});
        assert!(
            takes(&schema, valid) && !takes(&schema, invalid),
            "{schema}"
        );
        check_answers(
            &json!({"type": "string", "pattern": pattern, "maxLength": 12}),
            20,
        );
    }
}

/// A reader keeps one value of a name that comes twice.
#[test]
fn names_come_once_where_it_matters() {
    let patterns = json!({"type": "object", "patternProperties": {"^n_": {"type": "integer"}},
        "additionalProperties": false, "minProperties": 2});
    let free = json!({"type": "object", "minProperties": 2});
    let nested = json!({"items": {"anyOf": [{"type": "null"}, patterns]}});
    for schema in [&patterns, &free, &nested] {
        let message = compile(&spec(schema)).map(|_| ()).unwrap_err().to_string();
        assert!(message.contains("minProperties 2 at #"), "{message}");
    }
    let one_more = json!({"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"],
        "additionalProperties": {"type": "boolean"}, "minProperties": 2, "maxProperties": 3});
    assert!(takes(&one_more, r#"{"a":1,"b":true}"#));
    for twice in [
        r#"{"a":1,"a":true}"#,
        r#"{"a":1,"\u0061":true}"#,
        r#"{"a":1}"#,
    ] {
        assert!(!takes(&one_more, twice), "{twice}");
    }
    check_answers(&one_more, 30);
    let matched = json!({"patternProperties": {"^n": {"type": "integer"}}, "additionalProperties": {"type": "null"}});
    assert!(!takes(&matched, r#"{"\u006e":null}"#) && takes(&matched, r#"{"n":1,"m":null}"#));
    // Where an object has no names but its own, texts keep all escapes.
    let closed = json!({"properties": {"a": {"type": "string"}}, "additionalProperties": false});
    assert!(takes(&closed, r#"{"a":"\u001b"}"#));
    let code = json!({"properties": {"a": {"const": "\u{1b}"}}});
    let message = compile(&spec(&code)).map(|_| ()).unwrap_err().to_string();
    assert!(
        message.contains("control character at #/properties/a"),
        "{message}"
    );
}

#[test]
fn keywords_that_say_nothing_are_taken() {
    let annotations = json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema", "$id": "https://example.com/x", "$comment": "c",
        "title": "t", "description": "d", "default": 1, "examples": [1], "deprecated": true, "readOnly": true,
        "writeOnly": true, "contentEncoding": "base64", "contentMediaType": "text/plain", "contentSchema": {"not": {}},
        "$vocabulary": {"https://json-schema.org/draft/2020-12/vocab/core": true}, "$anchor": "here", "$defs": {},
        "definitions": {}, "nullable": true, "x-order": 3,
    });
    for more in [
        annotations,
        json!({"uniqueItems": false}),
        json!({"minItems": 0, "minLength": 0, "minProperties": 0, "minContains": 0, "maxContains": 1}),
        json!({"maxItems": 9.0, "maxLength": 9.0, "minItems": 0.0}),
        json!({"additionalProperties": true, "properties": {}, "patternProperties": {}, "required": []}),
        json!({"additionalProperties": {}, "additionalItems": true, "items": true, "prefixItems": [true]}),
        json!({"additionalItems": false}),
        json!({"contains": {"type": "null"}, "minContains": 0}),
        json!({"contains": false, "minContains": 0, "maxContains": 3}),
        json!({"unevaluatedProperties": true, "unevaluatedItems": {}}),
        json!({"propertyNames": true}),
        json!({"propertyNames": {"type": "string", "title": "name"}}),
        json!({"dependentRequired": {}, "dependentSchemas": {}, "dependencies": {}}),
        json!({"dependentRequired": {"a": []}, "dependentSchemas": {"a": true}}),
        json!({"not": false}),
        json!({"not": {"not": {}}}),
        json!({"then": false, "else": false}),
        json!({"if": {"type": "null"}, "then": true, "else": {}}),
        json!({"allOf": [{}, true], "anyOf": [true]}),
    ] {
        for base in [
            json!({}),
            json!({"type": "array", "maxItems": 3}),
            json!({"type": "string", "maxLength": 9}),
        ] {
            let mut schema = base.clone();
            let pairs = more.as_object().unwrap().clone();
            schema.as_object_mut().unwrap().extend(pairs);
            let answer = if base["type"] == "string" {
                "\"a\""
            } else {
                "[1,1]"
            };
            assert!(takes(&schema, answer), "{schema}");
            let nested =
                json!({"type": "object", "properties": {"deep": schema}, "required": ["deep"]});
            assert!(
                takes(&nested, &format!("{{\"deep\":{answer}}}")),
                "{nested}"
            );
        }
    }
}

#[test]
fn one_item_is_none_twice() {
    let schema = json!({"type": "array", "uniqueItems": true, "maxItems": 1});
    assert!(takes(&schema, "[1]") && !takes(&schema, "[1,1]"));
}

/// Grammars of the library's own hold schemas, too, as those of tool calls do.
#[test]
fn schemas_within_grammars_are_exact() {
    let schema = json!({"type": "string", "format": "date", "uniqueItems": false});
    let lark = format!("start: \"a\" %json {schema} \"b\"\n");
    let list = json!({"grammars": [{"json_schema": schema}]}).to_string();
    for (spec, before, after) in [
        (GrammarSpec::Grammar(lark.clone()), "a", "b"),
        (GrammarSpec::Llguidance(lark), "a", "b"),
        (GrammarSpec::Llguidance(list), "", ""),
    ] {
        let source = compile(&spec).unwrap();
        for (date, is_date) in [("2024-02-29", true), ("2023-02-29", false)] {
            let answer = format!("{before}\"{date}\"{after}");
            let taken = write(&*source, &answer);
            assert_eq!(taken == (answer.len(), true), is_date, "{answer}");
        }
    }
}
