//! Grammars that are made to hurt: each is refused, or served, in bounded time and without harm to others.

use std::fmt::Write;
use std::time::{Duration, Instant};

use maitre_sampling::TokenMask;
use maitre_text::grammar::{GrammarSpec, JsonWhitespace, StructuralTag, Tag};

use crate::walk::{TOKENIZER, compile, walk};

/// Far above what any of them takes in a build without optimisation, far below for ever.
const PATIENCE: Duration = Duration::from_secs(30);

fn schema(schema: String) -> GrammarSpec {
    GrammarSpec::JsonSchema {
        schema,
        whitespace: JsonWhitespace::Flexible,
    }
}

fn repeated(open: &str, middle: &str, close: &str, count: usize) -> String {
    format!("{}{middle}{}", open.repeat(count), close.repeat(count))
}

/// What it is, and how the refusal of it begins or `None` if it is served.
fn attacks() -> Vec<(&'static str, GrammarSpec)> {
    let numbers = |count: usize| {
        let numbers: Vec<String> = (0..count).map(|it| format!("\"value {it}\"")).collect();
        numbers.join(",")
    };
    let mut chain = "{\"$ref\":\"#/$defs/d0\",\"$defs\":{".to_owned();
    for index in 0..6000 {
        let _ = write!(
            chain,
            "\"d{index}\":{{\"$ref\":\"#/$defs/d{}\"}},",
            index + 1
        );
    }
    chain += "\"d6000\":{\"type\":\"null\"}}}";
    let deep_chain = {
        let mut text = "{\"$ref\":\"#/$defs/d0\",\"$defs\":{".to_owned();
        for index in 0..1300 {
            let next = format!("{{\"items\":{{\"$ref\":\"#/$defs/d{}\"}}}}", index + 1);
            let _ = write!(text, "\"d{index}\":{next},");
        }
        text + "\"d1300\":{\"type\":\"null\"}}}"
    };
    let patterns: Vec<String> = (0..200)
        .map(|it| format!("\"^(a|b)*x{it}$\":{{}}"))
        .collect();
    let wide: Vec<String> = (0..3000)
        .map(|it| format!("\"p{it}\":{{\"type\":\"string\"}}"))
        .collect();
    let product = |count: usize| {
        let of = |name: &str| {
            let options: Vec<String> = (0..count)
                .map(|it| format!("{{\"required\":[\"{name}{it}\"]}}"))
                .collect();
            format!("{{\"anyOf\":[{}]}}", options.join(","))
        };
        format!(
            "{{\"type\":\"object\",\"allOf\":[{},{},{}]}}",
            of("a"),
            of("b"),
            of("c")
        )
    };
    let tag = |begin: &str| Tag {
        begin: begin.to_owned(),
        schema: "{}".to_owned(),
        end: "x".to_owned(),
    };
    let regex = |text: String| GrammarSpec::Regex(text);
    let lark = |text: String| GrammarSpec::Grammar(text);
    vec![
        ("a schema of 1 MB", schema(format!("{{\"description\":\"{}\"}}", "x".repeat(1 << 20)))),
        ("ten thousand values", schema(format!("{{\"enum\":[{}]}}", numbers(10_000)))),
        ("more values than allowed", schema(format!("{{\"enum\":[{}]}}", numbers(10_001)))),
        ("deep nesting", schema(repeated("{\"items\":", "{}", "}", 120))),
        ("nesting beyond the reader", schema(repeated("[", "", "]", 20_000))),
        ("a chain of references", schema(chain)),
        ("a chain of references with levels", schema(deep_chain)),
        ("a reference to itself", schema("{\"$ref\":\"#\"}".into())),
        ("references in a ring", schema("{\"$ref\":\"#/$defs/a\",\"$defs\":{\"a\":{\"$ref\":\"#/$defs/b\"},\"b\":{\"$ref\":\"#/$defs/a\"}}}".into())),
        ("an endless object", schema("{\"type\":\"object\",\"properties\":{\"a\":{\"$ref\":\"#\"}},\"required\":[\"a\"]}".into())),
        ("many patterns", schema(format!("{{\"patternProperties\":{{{}}}}}", patterns.join(",")))),
        ("many properties", schema(format!("{{\"type\":\"object\",\"properties\":{{{}}}}}", wide.join(",")))),
        ("a product of alternatives", schema(product(60))),
        ("a long array", schema("{\"type\":\"array\",\"items\":{\"type\":\"integer\"},\"minItems\":100000}".into())),
        ("a long string", schema("{\"type\":\"string\",\"minLength\":1000000}".into())),
        ("a pattern that explodes", schema("{\"type\":\"string\",\"pattern\":\"^(a|aa)*b(a|b){3000}$\"}".into())),
        ("nested repetitions", regex("((((a{100}){100}){100}){100}){100}".into())),
        ("nested repetitions in a grammar", lark("start: /((((a{100}){100}){100}){100}){100}/".into())),
        ("nested repetitions of terminals", lark("start: E\nA: \"a\"{100}\nB: A{100}\nC: B{100}\nD: C{100}\nE: D{100}\n".into())),
        ("a long constant", schema(format!("{{\"const\":\"{}\"}}", "ab ".repeat(60_000)))),
        ("a catastrophic expression", regex("(a+)+(a+)+(a+)+b{1,1000}".into())),
        ("a subset construction", regex("(a|b)*a(a|b){400}".into())),
        ("a deep expression", regex(repeated("(", "a", ")", 5000))),
        ("a long expression", regex("ab".repeat(8000))),
        ("a longer expression", regex("ab".repeat(9000))),
        ("many classes of unicode", regex(r"(\p{L}|\p{N})*".repeat(1000))),
        ("a deep grammar", lark(format!("start: {}", repeated("(", "\"a\"", ")", 20_000)))),
        ("a deep grammar in EBNF", lark(format!("root ::= {}", repeated("(", "\"a\"", ")", 20_000)))),
        ("an ambiguous grammar", lark("start: start start | \"a\" |".into())),
        ("left recursion", lark("start: start \"a\" | \"a\"".into())),
        ("a grammar with a hostile schema", lark(format!("start: %json {}", repeated("{\"items\":", "{}", "}", 100)))),
        ("complements", lark("start: T\nT: ~(/(a|b)*a(a|b){100}/ & /(a|b)*b(a|b){101}/)".into())),
        ("a million choices", GrammarSpec::Choice(vec!["ab".into(); 1_000_000])),
        ("long choices", GrammarSpec::Choice((0..2000).map(|it| format!("{it}{}", "x".repeat(100))).collect())),
        ("many tags", GrammarSpec::StructuralTag(StructuralTag { tags: vec![tag("<a>"); 10_000], triggers: vec!["<".into()] })),
        ("many triggers", GrammarSpec::StructuralTag(StructuralTag {
            tags: (0..200).map(|it| tag(&format!("<a{it}>"))).collect(),
            triggers: (0..200).map(|it| format!("<a{it}")).collect(),
        })),
    ]
}

#[test]
fn hostile_grammars_end_in_bounded_time() {
    let mut slowest = (Duration::ZERO, "");
    for (name, spec) in attacks() {
        let began = Instant::now();
        let compiled = compile(&spec);
        let took = began.elapsed();
        let told = match &compiled {
            Ok(_) => "compiled".to_owned(),
            Err(error) => {
                let message = error.to_string();
                assert!(message.len() < 2000, "{name}: {} bytes", message.len());
                message.chars().take(110).collect()
            }
        };
        println!("{took:>8.1?}  {name}: {told}");
        assert!(took < PATIENCE, "{name}: {took:?}");
        slowest = slowest.max((took, name));
        if let Ok(source) = compiled {
            let began = Instant::now();
            // A grammar may fail on the way: then it says so, and the walk's checks are not its.
            let mut constraint = source.start();
            let mut longest = Duration::ZERO;
            for _ in 0..40 {
                let began = Instant::now();
                let mut masks = [TokenMask::new(TOKENIZER.num_tokens())];
                constraint.masks(&[], &mut masks);
                longest = longest.max(began.elapsed());
                let first = (0..TOKENIZER.num_tokens() as u32).find(|id| masks[0].allows(*id));
                let Some(token) = first else { break };
                constraint.advance(&[token]);
            }
            let failure = constraint.failure();
            println!(
                "          answer {:.1?}, longest mask {longest:.1?}, {failure:?}",
                began.elapsed()
            );
            assert!(began.elapsed() < PATIENCE, "{name}");
        }
    }
    println!("slowest to compile: {slowest:?}");
    // The compiler serves others as before.
    let source = compile(&GrammarSpec::Choice(vec!["fine".into()])).unwrap();
    assert!(walk(&*source, 1, 20).1);
}
