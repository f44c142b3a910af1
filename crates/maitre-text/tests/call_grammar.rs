//! The grammar of required calls against the parser: what the families' templates render is accepted, and whatever is
//! accepted parses to calls. llguidance runs the grammar, over a vocabulary of single bytes, with and without the
//! format's special tokens.

#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

mod formats;
#[path = "formats/vocabulary.rs"]
mod vocabulary;

use expect_test::expect;
use formats::{format, parse, sample, sample_calls, tools};
use maitre_text::{
    AnswerFormat, CallGrammar, ReasoningFormat, TextError, Thought, Tool, ToolChoice, ToolFormat,
    Tools,
};
use proptest::prelude::*;
use serde_json::{Value, json};
use vocabulary::Vocabulary;

struct Want<'a> {
    tools: &'a Tools,
    choice: ToolChoice,
    parallel: bool,
    reasoning: Option<(&'static ReasoningFormat, Thought)>,
    follow_schemas: bool,
}

impl Default for Want<'_> {
    fn default() -> Self {
        Self {
            tools: Box::leak(Box::new(tools().as_ref().clone())),
            choice: ToolChoice::Required,
            parallel: true,
            reasoning: None,
            follow_schemas: true,
        }
    }
}

impl Want<'_> {
    fn grammar(&self, format: &ToolFormat, vocabulary: &Vocabulary) -> Option<String> {
        self.try_grammar(format, vocabulary).unwrap()
    }

    fn try_grammar(
        &self,
        format: &ToolFormat,
        vocabulary: &Vocabulary,
    ) -> Result<Option<String>, TextError> {
        let special_token = |text: &str| vocabulary.special.get(text).copied();
        let request = CallGrammar {
            tools: self.tools,
            choice: &self.choice,
            parallel: self.parallel,
            follow_schemas: self.follow_schemas,
            reasoning: self.reasoning,
            special_token: &special_token,
        };
        format.grammar(&request)
    }
}

fn reasoning(tool_format: &'static ToolFormat) -> &'static ReasoningFormat {
    format(tool_format, true).reasoning_format.unwrap()
}

#[test]
fn what_templates_render_is_accepted() {
    for tool_format in ToolFormat::all() {
        for special in [false, true] {
            let vocabulary = Vocabulary::of(tool_format, reasoning(tool_format), special);
            let grammar = Want::default().grammar(tool_format, &vocabulary).unwrap();
            let text = sample(tool_format.name).replace("\n\n</｜DSML", "\n</｜DSML");
            // A mark is optional only where it is a token.
            let text = match (tool_format.name, special) {
                ("mistral_v11", false) => text.replace("[CALL_ID]aB3dE6gH9", ""),
                _ => text,
            };
            assert!(
                vocabulary.accepts(&grammar, &text),
                "{} {special}\n{text}\n{grammar}",
                tool_format.name
            );
            let one = Want {
                parallel: false,
                ..Want::default()
            };
            let grammar = one.grammar(tool_format, &vocabulary).unwrap();
            assert!(
                !vocabulary.accepts(&grammar, &text),
                "{} calls twice",
                tool_format.name
            );
            assert!(!vocabulary.accepts(&grammar, ""), "{}", tool_format.name);
            assert!(
                !vocabulary.accepts(&grammar, "Hello"),
                "{}",
                tool_format.name
            );
        }
    }
}

/// What such a grammar looks like: for a tokenizer without special tokens, and for one whose marks are some.
#[test]
fn a_grammar_to_look_at() {
    let tools = json!([
        {"name": "now"},
        {"name": "look", "parameters": {"type": "object", "properties": {
            "at": {"type": "string"}, "times": {"type": "integer"}}, "required": ["at"]}}
    ]);
    let tools = Tools::from_json(tools.as_array().unwrap()).unwrap();
    let think = ReasoningFormat::named("think").unwrap();
    let want = Want {
        tools: &tools,
        reasoning: Some((think, Thought::Open)),
        ..Want::default()
    };
    let hermes = ToolFormat::named("hermes").unwrap();
    expect![[r#"
        call_0: "{\"name\": \"now\", \"arguments\": " %json {"type":"object","properties":{},"additionalProperties":false,"x-guidance":{"item_separator":", ","key_separator":": ","whitespace_flexible":false,"coerce_one_of":true}}  "}" "\n</tool_call>"
        call_1: "{\"name\": \"look\", \"arguments\": " %json {"type":"object","properties":{"at":{"type":"string"},"times":{"type":"integer"}},"required":["at"],"x-guidance":{"item_separator":", ","key_separator":": ","whitespace_flexible":false,"coerce_one_of":true}}  "}" "\n</tool_call>"
        call: call_0 | call_1
        until_1[suffix="</think>"]: /(?s:.*)/
        start: until_1 (/[ \n]{1,4}/)? "<tool_call>\n" call ("\n<tool_call>\n" call)*
    "#]].assert_eq(&want.grammar(hermes, &Vocabulary::new(&[])).unwrap());
    let glm = ToolFormat::named("glm").unwrap();
    let vocabulary = Vocabulary::of(glm, think, true);
    expect![[r#"
        call_0: "now\n"  <[257]>
        argument_1_0: <[258]> "at" <[259]> "\n" <[260]> /(?s:.*)/ <[261]> "\n"
        argument_1_1: <[258]> "times" <[259]> "\n" <[260]> %json {"type":"integer","x-guidance":{"item_separator":", ","key_separator":": ","whitespace_flexible":false,"coerce_one_of":true}} <[261]> "\n"
        call_1: "look\n" argument_1_0 argument_1_1? <[257]>
        call: call_0 | call_1
        start: /(?s:.*)/ <[263]> (/[ \n]{1,4}/)? <[256]> call ("\n" <[256]> call)*
    "#]]
    .assert_eq(&want.grammar(glm, &vocabulary).unwrap());
}

#[test]
fn a_named_tool_is_the_one_that_is_called() {
    for tool_format in ToolFormat::all() {
        let vocabulary = Vocabulary::of(tool_format, reasoning(tool_format), true);
        let calls = |name: &str, text: &str| {
            let want = Want {
                choice: ToolChoice::Named(name.into()),
                ..Want::default()
            };
            vocabulary.accepts(&want.grammar(tool_format, &vocabulary).unwrap(), text)
        };
        // The first call of the sample, with what closes the section.
        let text = sample(tool_format.name);
        let now = text.find("now").unwrap();
        assert!(!calls("now", text), "{}", tool_format.name);
        assert!(!calls("get_weather", &text[..now]), "{}", tool_format.name);
    }
}

#[test]
fn an_unknown_tool_or_choice_is_refused() {
    let hermes = ToolFormat::named("hermes").unwrap();
    let none = |_: &str| None;
    let tools = tools();
    let other = ToolChoice::Named("other".into());
    let request = |choice| CallGrammar {
        tools: &tools,
        choice,
        parallel: true,
        follow_schemas: true,
        reasoning: None,
        special_token: &none,
    };
    assert!(hermes.grammar(&request(&other)).is_err());
    assert_eq!(hermes.grammar(&request(&ToolChoice::None)).unwrap(), None);
    assert_eq!(hermes.grammar(&request(&ToolChoice::Auto)).unwrap(), None);
}

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

/// Whether arguments fit the schema of [`tools`].
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

#[test]
fn thoughts_come_before_a_required_call() {
    for tool_format in ToolFormat::all() {
        let reasoning = reasoning(tool_format);
        let next = if tool_format.name == "harmony" {
            "<|start|>assistant"
        } else {
            "\n\n"
        };
        for special in [false, true] {
            let vocabulary = Vocabulary::of(tool_format, reasoning, special);
            let accepts = |thought, text: &str| {
                let want = Want {
                    reasoning: Some((reasoning, thought)),
                    ..Want::default()
                };
                let grammar = want.grammar(tool_format, &vocabulary).unwrap();
                vocabulary.accepts(&grammar, text)
            };
            let calls = sample(tool_format.name)
                .replace("\n\n</｜DSML", "\n</｜DSML")
                .replace("[CALL_ID]aB3dE6gH9", "");
            let closed = format!("Hm.{}{next}{calls}", reasoning.close);
            let opened = format!("{}{closed}", reasoning.open);
            let name = tool_format.name;
            assert!(accepts(Thought::Open, &closed), "{name} {special}");
            assert!(accepts(Thought::Unopened, &opened), "{name} {special}");
            assert!(accepts(Thought::Unopened, &calls), "{name} {special}");
            assert!(!accepts(Thought::Open, &calls), "{name} {special}");
        }
    }
}

#[test]
fn strict_tools_are_constrained_where_text_is_free() {
    let strict = json!([
        {"name": "get_weather", "strict": true, "parameters": {
            "type": "object", "properties": {"city": {"type": "string"}, "days": {"type": "integer"}},
            "required": ["city", "days"], "additionalProperties": false}},
        {"name": "now", "parameters": {"type": "object"}}
    ]);
    let strict = Tools::from_json(strict.as_array().unwrap()).unwrap();
    for tool_format in ToolFormat::all() {
        for special in [false, true] {
            let vocabulary = Vocabulary::of(tool_format, reasoning(tool_format), special);
            let want = Want {
                tools: &strict,
                choice: ToolChoice::Auto,
                ..Want::default()
            };
            let name = tool_format.name;
            let Some(grammar) = want.grammar(tool_format, &vocabulary) else {
                assert!(matches!(name, "pythonic" | "llama3_json"), "{name}");
                continue;
            };
            let calls = sample(name)
                .replace("\n\n</｜DSML", "\n</｜DSML")
                .replace("[CALL_ID]aB3dE6gH9", "");
            let says = match name {
                "harmony" => "<|channel|>commentary<|message|>Well.<|end|><|start|>assistant",
                _ => "Well. ",
            };
            let answers = if name == "harmony" {
                "<|channel|>final<|message|>Well."
            } else {
                "Well."
            };
            assert!(
                vocabulary.accepts(&grammar, answers),
                "{name} {special}\n{grammar}"
            );
            assert!(
                vocabulary.accepts(&grammar, &calls),
                "{name} {special}\n{grammar}"
            );
            assert!(
                vocabulary.accepts(&grammar, &format!("{says}{calls}")),
                "{name} {special}\n{grammar}"
            );
            let wrong = calls.replace("days", "tags");
            assert!(
                !vocabulary.accepts(&grammar, &wrong),
                "{name} {special}\n{wrong}\n{grammar}"
            );
        }
    }
}

#[test]
fn schemas_with_references_and_free_schemas() {
    let tools = json!([
        {"name": "a", "parameters": {
            "type": "object",
            "properties": {"x": {"$ref": "#/$defs/point"}, "y": {"anyOf": [{"type": "integer"}, {"type": "null"}]}},
            "required": ["x"], "additionalProperties": false,
            "$defs": {"point": {"type": "object", "properties": {"p": {"type": "integer"}}, "required": ["p"], "additionalProperties": false}}}},
        {"name": "b", "parameters": {"type": "object"}},
        {"name": "c"}
    ]);
    let tools = Tools::from_json(tools.as_array().unwrap()).unwrap();
    let coder = ToolFormat::named("qwen3_coder").unwrap();
    let vocabulary = Vocabulary::new(&[]);
    let want = Want {
        tools: &tools,
        ..Want::default()
    };
    let grammar = want.grammar(coder, &vocabulary).unwrap();
    let call = |body: &str| format!("<tool_call>\n<function={body}</function>\n</tool_call>");
    for (body, expected) in [
        ("a>\n<parameter=x>\n{\"p\": 1}\n</parameter>\n", true),
        (
            "a>\n<parameter=x>\n{\"p\": 1}\n</parameter>\n<parameter=y>\nnull\n</parameter>\n",
            true,
        ),
        ("a>\n<parameter=x>\n{\"p\": \"1\"}\n</parameter>\n", false),
        ("a>\n", false),
        ("b>\n", true),
        ("b>\n<parameter=any>\nthing\n</parameter>\n", true),
        ("c>\n", true),
        ("c>\n<parameter=any>\nthing\n</parameter>\n", false),
    ] {
        assert_eq!(
            vocabulary.accepts(&grammar, &call(body)),
            expected,
            "{body}\n{grammar}"
        );
    }
    let hermes = ToolFormat::named("hermes").unwrap();
    let loose = Want {
        tools: &tools,
        follow_schemas: false,
        ..Want::default()
    };
    let grammar = loose.grammar(hermes, &vocabulary).unwrap();
    let text = "<tool_call>\n{\"name\": \"a\", \"arguments\": {\"z\": [1]}}\n</tool_call>";
    assert!(vocabulary.accepts(&grammar, text), "{grammar}");
}

#[test]
fn names_cannot_break_out_of_the_grammar() {
    let tools = json!([{"name": "a", "parameters": {"type": "object", "properties": {
        "\"x\n%import <[1]> /": {"type": "string"}, "y\\": {"enum": ["\"", "\n", "</parameter>"]}
    }}}]);
    let tools = Tools::from_json(tools.as_array().unwrap()).unwrap();
    for tool_format in ToolFormat::all() {
        let vocabulary = Vocabulary::of(tool_format, reasoning(tool_format), true);
        let want = Want {
            tools: &tools,
            ..Want::default()
        };
        let grammar = want.grammar(tool_format, &vocabulary).unwrap();
        // It compiles.
        vocabulary.matcher(&grammar);
    }
    let tool = Tool {
        name: "a\"".into(),
        description: None,
        parameters: serde_json::Map::new(),
        strict: false,
    };
    assert!(Tools::new(vec![tool]).is_err());
    assert_eq!(sample_calls().len(), 2);
}

/// What the grammar of a format does not make arguments follow is refused for a strict tool, rather than passed over.
#[test]
fn strict_tools_are_refused_what_their_format_does_not_follow() {
    let json_formats = ["hermes", "llama3_json", "harmony"];
    let followed = [
        json!({"type": "string", "description": "A city."}),
        json!({"enum": ["Oslo", "Bergen"]}),
        json!({"type": ["integer", "null"]}),
        json!({"const": "Oslo", "default": "Oslo"}),
    ];
    let texts = [
        (
            json!({"type": "string", "pattern": "^[A-Z]{3}$"}),
            "pattern",
        ),
        (
            json!({"type": ["string", "null"], "maxLength": 3}),
            "maxLength",
        ),
        (json!({"type": "string", "format": "date"}), "format"),
    ];
    let literals = [
        (json!({"type": "integer", "maximum": 7}), "maximum"),
        (
            json!({"type": "array", "items": {"type": "integer"}}),
            "items",
        ),
        (json!({"enum": [1, 2]}), "enum"),
    ];
    for tool_format in ToolFormat::all() {
        let name = tool_format.name;
        let vocabulary = Vocabulary::of(tool_format, reasoning(tool_format), false);
        let refusal = |schema: &Value| {
            let tools = json!([{"name": "f", "strict": true, "parameters": {
                "type": "object", "properties": {"it": schema}, "required": ["it"]}}]);
            let tools = Tools::from_json(tools.as_array().unwrap()).unwrap();
            let want = Want {
                tools: &tools,
                choice: ToolChoice::Required,
                ..Want::default()
            };
            let error = want.try_grammar(tool_format, &vocabulary).err();
            error.map(|error: TextError| error.to_string())
        };
        for schema in &followed {
            assert_eq!(refusal(schema), None, "{name} {schema}");
        }
        let is_refused = |schema: &Value, keyword: &str| {
            let said = refusal(schema)?;
            assert!(
                said.contains(&format!("{keyword:?} of the argument \"it\"")),
                "{said}"
            );
            Some(())
        };
        let refused = |cases: &[(Value, &str)]| {
            let refused = cases
                .iter()
                .filter_map(|(schema, keyword)| is_refused(schema, keyword));
            refused.count()
        };
        match (refused(&texts), refused(&literals)) {
            // JSON follows all of it.
            (0, 0) => assert!(!matches!(name, "pythonic" | "qwen3_coder"), "{name}"),
            (3, 0) => assert!(!json_formats.contains(&name), "{name}"),
            (3, 3) => assert!(
                !json_formats.contains(&name) && name != "qwen3_coder",
                "{name}"
            ),
            other => panic!("{name}: {other:?}"),
        }
    }
}
