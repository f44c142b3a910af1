//! Regular expressions, grammars, choices and structural tags.

use maitre_text::grammar::{GrammarSpec, StructuralTag, Tag};

use crate::walk::{EOS, TOKENIZER, compile, text, walk, write, write_on};

fn answers(spec: &GrammarSpec, most: usize) -> Vec<(String, bool)> {
    let source = compile(spec).unwrap_or_else(|error| panic!("{spec:?}: {error}"));
    let walks = (0..12).map(|seed| walk(&*source, seed, most));
    walks
        .map(|(tokens, is_complete)| (text(&tokens), is_complete))
        .collect()
}

#[test]
fn a_regular_expression_is_matched_whole() {
    for (regex, is_match) in [
        (
            "[0-9]{3}-[0-9]{4}",
            (|it| it.len() == 8) as fn(&str) -> bool,
        ),
        ("^(yes|no)$", |it| it == "yes" || it == "no"),
        ("^a$|^b$", |it| it == "a" || it == "b"),
        (r"(a/b|\$)\$", |it| it == "a/b$" || it == "$$"),
        ("[äöü]{2}", |it| it.chars().count() == 2),
        ("", |_| false),
    ] {
        let spec = GrammarSpec::Regex(regex.to_owned());
        if regex.is_empty() {
            let message = compile(&spec).unwrap_err().to_string();
            assert!(message.contains("nothing but the empty text"), "{message}");
            continue;
        }
        for (text, is_complete) in answers(&spec, 30) {
            assert!(is_complete && is_match(&text), "{regex}: {text:?}");
        }
    }
    for (regex, reason) in [
        ("(a", "is not a regular expression"),
        (r"a(?=b)", "look-ar"),
        (r"(a)\1", "backreferences"),
    ] {
        let message = compile(&GrammarSpec::Regex(regex.to_owned())).unwrap_err();
        assert!(message.to_string().contains(reason), "{regex}: {message}");
    }
}

#[test]
fn one_of_the_choices_comes() {
    let choices = [
        "yes",
        "no",
        "not yet",
        "日本",
        "a \"b\" \\ \n c",
        "<|im_end|>",
        "yesterday",
    ];
    let spec = GrammarSpec::Choice(choices.map(String::from).to_vec());
    for (text, is_complete) in answers(&spec, 30) {
        assert!(is_complete && choices.contains(&text.as_str()), "{text:?}");
    }
    for (choices, reason) in [
        (vec![], "is empty"),
        (vec!["a".to_owned(), String::new()], "text 1 is empty"),
    ] {
        let message = compile(&GrammarSpec::Choice(choices)).unwrap_err();
        assert!(message.to_string().contains(reason), "{message}");
    }
}

/// The same language in the two notations.
#[test]
fn grammars_are_read_in_both_notations() {
    let lark = "start: sum\nsum: term (\" + \" term)*\nterm: NUMBER | \"(\" sum \")\"\nNUMBER: /[0-9]{1,3}/\n";
    let ebnf = "root ::= term (\" + \" term)*\nterm ::= digit digit? | \"(\" root \")\" # nested\ndigit ::= [0-9]\n";
    for grammar in [lark, ebnf] {
        for (text, _) in answers(&GrammarSpec::Grammar(grammar.to_owned()), 24) {
            let is_part = |c: char| c.is_ascii_digit() || "+() ".contains(c);
            assert!(!text.is_empty() && text.chars().all(is_part), "{text:?}");
        }
    }
    for (grammar, reason) in [
        ("start: missing", "is not a grammar"),
        ("root ::= missing", "r_missing"),
        ("root ::= \"a", "line 1"),
        ("", "is not a grammar"),
    ] {
        let message = compile(&GrammarSpec::Grammar(grammar.to_owned())).unwrap_err();
        assert!(message.to_string().contains(reason), "{grammar}: {message}");
    }
}

fn tag(begin: &str, schema: &str, end: &str) -> Tag {
    Tag {
        begin: begin.to_owned(),
        schema: schema.to_owned(),
        end: end.to_owned(),
    }
}

#[test]
fn free_text_has_tags_in_it() {
    let numbers = r#"{"type":"object","properties":{"n":{"enum":[1,2]}},"required":["n"],"additionalProperties":false}"#;
    let spec = GrammarSpec::StructuralTag(StructuralTag {
        tags: vec![
            tag("<fn=add>", numbers, "</fn>"),
            tag("<fn=sub>", "{\"type\":\"null\"}", "</fn>"),
        ],
        triggers: vec!["<fn=".to_owned()],
    });
    for (text, expected) in [
        ("just text", true),
        ("so: <fn=add>{\"n\":1}</fn> and <fn=sub>null</fn>.", true),
        ("<fn=add>{\"n\":1}</fn><fn=add>{\"n\":2}</fn>", true),
        ("so: <fn=add>{\"n\":3}</fn>", false),
        ("so: <fn=mul>{\"n\":1}</fn>", false),
        ("so: <fn=add>{\"n\":1}", false),
        ("less < more <fnord", true),
    ] {
        let found = write(&*compile(&spec).unwrap(), text);
        assert_eq!(found == (text.len(), true), expected, "{text}: {found:?}");
    }
    // Some answers have a call, whatever comes: none has a trigger outside of one.
    for (text, is_complete) in answers(&spec, 60) {
        let calls = text.matches("<fn=").count();
        let whole = text.matches("</fn>").count();
        assert!(!is_complete || calls == whole, "{text}");
    }
    for (tag, reason) in [
        (StructuralTag::default(), "at least one tag"),
        (
            StructuralTag {
                tags: vec![tag("x", "{}", "y")],
                triggers: vec!["z".to_owned()],
            },
            "no trigger",
        ),
        (
            StructuralTag {
                tags: vec![tag("x", "{\"not\": {}}", "y")],
                triggers: vec!["x".to_owned()],
            },
            "not",
        ),
    ] {
        let message = compile(&GrammarSpec::StructuralTag(tag)).unwrap_err();
        assert!(message.to_string().contains(reason), "{message}");
    }
}

/// A trigger that is a token of its own is that token, and no text spells it.
#[test]
fn control_tokens_begin_tags() {
    let name = TOKENIZER.token_text(EOS[0]).unwrap();
    let control: Vec<u32> = (0..TOKENIZER.num_tokens() as u32)
        .filter(|id| TOKENIZER.is_special(*id) && !EOS.contains(id))
        .collect();
    let id = *control.first().unwrap();
    let trigger = TOKENIZER.token_text(id).unwrap();
    assert_ne!(trigger, name);
    let spec = GrammarSpec::StructuralTag(StructuralTag {
        tags: vec![tag(&format!("{trigger}x"), "{\"const\":7}", "y")],
        triggers: vec![trigger.clone()],
    });
    for (text, expected) in [("x7y b", true), ("x8y b", false), ("z", false)] {
        let mut constraint = compile(&spec).unwrap().start();
        assert_eq!(write_on(&mut *constraint, "a "), (2, true));
        constraint.advance(&[id]);
        assert_eq!(
            write_on(&mut *constraint, text) == (text.len(), true),
            expected,
            "{text}"
        );
    }
    let source = compile(&spec).unwrap();
    let mut masks = [maitre_sampling::TokenMask::new(TOKENIZER.num_tokens())];
    source.start().masks(&[], &mut masks);
    assert!(masks[0].allows(id) && masks[0].allows(EOS[0]));
    assert!(control[1..].iter().all(|it| !masks[0].allows(*it)));
}

#[test]
fn a_grammar_of_the_library_is_taken_as_it_is() {
    let list = r#"{"grammars":[{"lark_grammar":"start: \"<\" @value \">\""},{"name":"value","json_schema":{"enum":[1,2]}}]}"#;
    for (text, is_complete) in answers(&GrammarSpec::Llguidance(list.to_owned()), 20) {
        assert!(
            is_complete && ["<1>", "<2>"].contains(&text.as_str()),
            "{text}"
        );
    }
}
