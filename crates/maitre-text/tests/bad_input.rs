//! What is refused, and in which words.

#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

mod data;

use expect_test::expect;
use maitre_text::{
    ChatMessage, ChatRequest, ChatTemplate, Role, SpecialTokens, TemplateLimits, TextError,
    Tokenizer, TokenizerFiles,
};

fn one_message() -> ChatRequest {
    ChatRequest::new(vec![ChatMessage::new(Role::User, "hi")])
}

fn render(source: &str, request: &ChatRequest) -> Result<String, TextError> {
    ChatTemplate::new(source)?.render(request, &SpecialTokens::new())
}

fn messages(results: impl IntoIterator<Item = String>) -> String {
    results.into_iter().map(|message| message + "\n").collect()
}

#[test]
fn files_that_are_no_tokenizer() {
    let model = r#""model": {"type": "BPE", "vocab": {"a": 0}, "merges": []}"#;
    let cases = [
        String::new(),
        "{".into(),
        "[]".into(),
        "{}".into(),
        r#"{"model": {}}"#.into(),
        r#"{"model": {"type": "BPE", "vocab": {}, "merges": []}}"#.into(),
        r#"{"model": {"type": "BPE", "vocab": {"a": 0}, "merges": ["a b"]}}"#.into(),
        r#"{"model": {"type": "BPE", "vocab": {"a": 4000000000}, "merges": []}}"#.into(),
        format!(r#"{{"decoder": {{"type": "Nonsense"}}, {model}}}"#),
        format!(
            r#"{{"decoder": {{"type": "WordPiece", "prefix": "x", "cleanup": true}}, {model}}}"#
        ),
        format!(r#"{{"added_tokens": [{{"id": 9}}], {model}}}"#),
        "\u{fffd}".into(),
        // The library panics at these.
        format!(r#"{{"decoder": {{"type": "ByteLevel"!}}, {model}}}"#),
        format!(r#"{{"decoder": {{"type": "ByteLevel", {model}}}"#),
    ];
    for json in &cases {
        let error = Tokenizer::from_bytes(json.as_bytes(), None, None).unwrap_err();
        assert!(
            matches!(
                error,
                TextError::InvalidTokenizer { .. } | TextError::UnsupportedDecoder { .. }
            ),
            "{json}: {error}"
        );
        assert!(
            error.to_string().contains("tokenizer.json"),
            "{json}: {error}"
        );
    }
    expect![[r#"
        tokenizer.json cannot be used: EOF while parsing a value at line 1 column 0; expected the file a Hugging Face fast tokenizer saves
        tokenizer.json cannot be used: Token `b` out of vocabulary at line 1 column 64; expected the file a Hugging Face fast tokenizer saves
        tokenizer.json cannot be used: token id 4000000000 is larger than the largest accepted, 16777215; expected the file a Hugging Face fast tokenizer saves
        tokenizer.json's decoder WordPiece is not supported; supported are ByteLevel, and sequences of Replace, Metaspace, Strip and ByteFallback that may end in Fuse and Strip
    "#]].assert_eq(&messages([0, 6, 7, 9].map(|at: usize| {
        Tokenizer::from_bytes(cases[at].as_bytes(), None, None)
            .unwrap_err()
            .to_string()
    })));
}

#[test]
fn configurations_and_templates_that_cannot_be_read() {
    let build = |config: &str, template: Option<&[u8]>| {
        Tokenizer::from_bytes(data::BUNDLED_TOKENIZER, Some(config.as_bytes()), template)
            .unwrap_err()
            .to_string()
    };
    expect![[r#"
        tokenizer_config.json cannot be used: EOF while parsing a value at line 1 column 0
        tokenizer_config.json cannot be used: eos_token is neither a string nor an object with a string `content`
        bos_token is "<s>" in tokenizer_config.json, but tokenizer.json has no such token; the two files must come from the same model
        tokenizer_config.json cannot be used: chat_template is neither a string nor a list of {name, template}
        the chat template "default" cannot be used: syntax error: expected an expression, got end of statement block (in default:1)
        the chat template "default" cannot be used: syntax error: expected end of print statement, got end of template (in default:2)
        the chat template "chat_template.jinja" cannot be used: it is not UTF-8 (invalid utf-8 sequence of 1 bytes from index 0)
    "#]].assert_eq(&messages([
        build("", None),
        build(r#"{"eos_token": 2}"#, None),
        build(r#"{"add_bos_token": true, "bos_token": "<s>"}"#, None),
        build(r#"{"chat_template": ["x"]}"#, None),
        build(r#"{"chat_template": "{% for x in %}"}"#, None),
        build("{}", Some(b"line 1\n{{ unclosed")),
        build("{}", Some(b"\xff")),
    ]));
}

/// Each of these would run for ever, for too long, or until the stack or the memory ends.
#[test]
fn templates_that_do_not_stop() {
    let template = |source: &str| {
        let limits = TemplateLimits {
            instructions: 100_000,
            output_bytes: 1 << 20,
        };
        let template = ChatTemplate::new(source).unwrap().with_limits(limits);
        template
            .render(&one_message(), &SpecialTokens::new())
            .unwrap_err()
    };
    for source in [
        "{% for x in range(99999) %}{% for y in range(99999) %}{% endfor %}{% endfor %}",
        "{% for x in range(99999) %}{% for y in range(99999) %}.{% endfor %}{% endfor %}",
        "{% set ns = namespace(n=0) %}{% for x in range(99999) %}{% set ns.n = ns.n + x %}{% endfor %}",
    ] {
        let error = template(source);
        assert!(
            matches!(
                error,
                TextError::TemplateTooLong {
                    limit_instructions: 100_000
                }
            ),
            "{source}: {error}"
        );
    }
    for source in [
        "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}",
        "{% macro a() %}{{ b() }}{% endmacro %}{% macro b() %}{{ a() }}{% endmacro %}{{ a() }}",
        "{% include 'default' %}",
        "{% set ns = namespace(x=[]) %}{% for i in range(900) %}{% set ns.x = [ns.x] %}{% endfor %}{{ ns.x | tojson }}",
    ] {
        let error = template(source);
        assert!(
            matches!(error, TextError::TemplateFailed { .. }),
            "{source}: {error}"
        );
    }
    for source in [
        "{% for x in range(9999) %}{{ 'x' * 10000 }}{% endfor %}",
        "{% set block %}{% for x in range(9999) %}{{ 'x' * 10000 }}{% endfor %}{% endset %}",
        "{% macro m() %}{% for x in range(9999) %}{{ 'x' * 10000 }}{% endfor %}{% endmacro %}{% set x = m() %}",
    ] {
        let error = template(source);
        assert!(
            matches!(
                error,
                TextError::TemplateOutputTooLarge {
                    limit_bytes: 1048576
                }
            ),
            "{source}: {error}"
        );
    }
    assert!(matches!(
        template("{{ 'x' * 10 ** 15 }}"),
        TextError::TemplateFailed { .. }
    ));
}

/// Raw template text is bounded as well as values, and the default limits hold.
#[test]
fn the_default_limits_stop_a_flood() {
    let line = "x".repeat(10_000);
    let source = format!("{{% for x in range(99999) %}}{line}{{% endfor %}}");
    let error = render(&source, &one_message()).unwrap_err();
    assert!(
        matches!(error, TextError::TemplateOutputTooLarge { .. }),
        "{error}"
    );
    let endless = "{% for x in range(99999) %}{% for y in range(99999) %}{% endfor %}{% endfor %}";
    let error = render(endless, &one_message()).unwrap_err();
    assert!(
        matches!(error, TextError::TemplateTooLong { .. }),
        "{error}"
    );
}

#[test]
fn templates_that_fail_say_where() {
    let failure = |source: &str| render(source, &one_message()).unwrap_err().to_string();
    expect![[r#"
        the model's chat template refuses this conversation: Only even turns!
        the model's chat template refuses this conversation: Deep inside.
        the model's chat template failed: undefined value: cannot read 'at_all' of it (in default:2)
        the model's chat template failed: invalid operation: tried to use + operator on unsupported types number and string (in default:1)
        the model's chat template failed: unknown function: nonsense is unknown (in default:1)
        the model's chat template failed: unknown filter: filter nonsense is unknown (in default:1)
        the model's chat template failed: invalid operation: printing a function is not supported by this server's templates (in default:1)
        the model's chat template failed: invalid operation: {% include %}: a chat template cannot load other templates (in default:1)
    "#]].assert_eq(&messages([
        failure("{{ raise_exception('Only even turns!') }}"),
        failure("{% macro m() %}{{ raise_exception('Deep inside.') }}{% endmacro %}{{ m() }}"),
        failure("line 1\n{{ messages[0].nothing.at_all }}"),
        failure("{{ 1 + 'x' }}"),
        failure("{{ nonsense() }}"),
        failure("{{ messages | nonsense }}"),
        failure("{{ raise_exception }}{{ raise_exception | tojson }}"),
        failure("{% include 'other' %}"),
    ]));
}

#[test]
fn requests_that_are_refused() {
    let tokenizer = data::bundled();
    let none = ChatRequest::default();
    assert!(matches!(
        tokenizer.encode_chat(&none),
        Err(TextError::NoMessages)
    ));
    let mut reserved = one_message();
    reserved
        .template_kwargs
        .insert("messages".into(), serde_json::json!([]));
    let without_template = Tokenizer::from_bytes(data::BUNDLED_TOKENIZER, None, None).unwrap();
    assert!(!without_template.has_chat_template() && tokenizer.has_chat_template());
    expect![[r#"
        a chat needs at least one message
        template argument "messages" is reserved: it is taken from the request's own fields
        the model has no chat template; send a plain prompt, or add chat_template.jinja to the model's directory
        unknown chat role "narrator"; expected one of: system, developer, user, assistant, tool
        unknown chat role ""; expected one of: system, developer, user, assistant, tool
        unknown chat role "User"; expected one of: system, developer, user, assistant, tool
    "#]].assert_eq(&messages([
        tokenizer.encode_chat(&none).unwrap_err().to_string(),
        tokenizer.encode_chat(&reserved).unwrap_err().to_string(),
        without_template
            .encode_chat(&one_message())
            .unwrap_err()
            .to_string(),
        "narrator".parse::<Role>().unwrap_err().to_string(),
        "".parse::<Role>().unwrap_err().to_string(),
        "User".parse::<Role>().unwrap_err().to_string(),
    ]));
}

#[test]
fn roles_that_are_accepted() {
    for (name, role) in [
        ("system", Role::System),
        ("developer", Role::System),
        ("user", Role::User),
        ("assistant", Role::Assistant),
        ("tool", Role::Tool),
    ] {
        assert_eq!(name.parse::<Role>().unwrap(), role);
    }
}

#[test]
fn a_template_file_wins_and_tools_choose_theirs() {
    let config = br#"{"chat_template": [{"name": "default", "template": "D"}, {"name": "tool_use", "template": "T"}]}"#;
    let build = |file| Tokenizer::from_bytes(data::BUNDLED_TOKENIZER, Some(config), file).unwrap();
    let mut with_tools = one_message();
    with_tools.tools = vec![serde_json::json!({})];
    assert_eq!(build(None).render_chat(&one_message()).unwrap(), "D");
    assert_eq!(build(None).render_chat(&with_tools).unwrap(), "T");
    assert_eq!(build(Some(b"F")).render_chat(&with_tools).unwrap(), "F");
}

fn with_tools() -> ChatRequest {
    let mut request = one_message();
    request.tools = vec![serde_json::json!({})];
    request
}

/// Which template renders a plain chat, and which a chat with tools.
fn rendered(files: &TokenizerFiles<'_>) -> (String, String) {
    let tokenizer = Tokenizer::from_files(files).unwrap();
    let render = |request: &ChatRequest| match tokenizer.render_chat(request) {
        Ok(text) => text,
        Err(error @ TextError::InvalidTemplate { .. }) => error.to_string(),
        Err(other) => panic!("{other:?}"),
    };
    (render(&one_message()), render(&with_tools()))
}

fn bundled_with(config: Option<&[u8]>) -> TokenizerFiles<'_> {
    TokenizerFiles {
        tokenizer: data::BUNDLED_TOKENIZER,
        config,
        ..TokenizerFiles::default()
    }
}

#[test]
fn template_files_win_as_in_transformers() {
    let list = br#"{"chat_template": [{"name": "default", "template": "D"}, {"name": "tool_use", "template": "T"}]}"#;
    let named = |name: &str, source: &str| (name.to_owned(), source.as_bytes().to_vec());
    let tool_use = [named("rag", "R"), named("tool_use", "A")];
    let default = [named("default", "B")];
    let files = bundled_with(Some(list));
    let is = |files: TokenizerFiles<'_>, plain: &str, tools: &str| {
        assert_eq!(rendered(&files), (plain.to_owned(), tools.to_owned()));
    };
    is(files, "D", "T");
    is(
        TokenizerFiles {
            chat_template: Some(b"F"),
            additional_chat_templates: &tool_use,
            ..files
        },
        "F",
        "A",
    );
    // A file called default.jinja is the default.
    is(
        TokenizerFiles {
            chat_template: Some(b"F"),
            additional_chat_templates: &default,
            ..files
        },
        "B",
        "B",
    );
    // chat_template.json counts where nothing else does.
    let json = Some(&br#"{"chat_template": "J"}"#[..]);
    is(
        TokenizerFiles {
            chat_template_json: json,
            ..files
        },
        "D",
        "T",
    );
    is(
        TokenizerFiles {
            chat_template_json: json,
            ..bundled_with(Some(b"{}"))
        },
        "J",
        "J",
    );
}

#[test]
fn one_bad_template_of_several_fails_the_chats_that_need_it() {
    let bad = [("tool_use".to_owned(), b"{% for x in %}".to_vec())];
    let binary = [("tool_use".to_owned(), b"\xff".to_vec())];
    let rag = [("rag".to_owned(), b"R".to_vec())];
    let good = [("tool_use".to_owned(), b"T".to_vec())];
    let file = |default, additional| TokenizerFiles {
        chat_template: default,
        additional_chat_templates: additional,
        ..bundled_with(None)
    };
    let list = |list: &str| format!(r#"{{"chat_template": {list}}}"#);
    let no_default = list(r#"[{"name": "rag", "template": "R"}]"#);
    let no_text = list(r#"[{"name": "default", "template": "D"}, {"name": "tool_use"}]"#);
    let bad_default = list(r#"{"default": "{% endfor %}", "tool_use": "T"}"#);
    let cases = [
        file(Some(b"D"), &bad),
        file(Some(b"D"), &binary),
        file(None, &rag),
        file(None, &good),
        file(Some(b"{{ unclosed"), &good),
        bundled_with(Some(no_default.as_bytes())),
        bundled_with(Some(bad_default.as_bytes())),
        bundled_with(Some(no_text.as_bytes())),
    ];
    for files in &cases {
        let problems = Tokenizer::from_files(files).unwrap().template_problems();
        assert_eq!(problems.len(), 1, "{problems:?}");
    }
    expect![[r#"
        plain: D
        tools: the chat template "tool_use" cannot be used: syntax error: expected an expression, got end of statement block (in tool_use:1)
        plain: D
        tools: the chat template "tool_use" cannot be used: it is not UTF-8 (invalid utf-8 sequence of 1 bytes from index 0)
        plain: the chat template "default" cannot be used: the model names its templates, but none is called "default" (there is rag)
        tools: the chat template "default" cannot be used: the model names its templates, but none is called "default" (there is rag)
        plain: the chat template "default" cannot be used: the model names its templates, but none is called "default" (there is tool_use)
        tools: T
        plain: the chat template "default" cannot be used: syntax error: expected end of print statement, got end of template (in default:1)
        tools: T
        plain: the chat template "default" cannot be used: the model names its templates, but none is called "default" (there is rag)
        tools: the chat template "default" cannot be used: the model names its templates, but none is called "default" (there is rag)
        plain: the chat template "default" cannot be used: syntax error: unknown tag 'endfor' (in default:1)
        tools: T
        plain: D
        tools: the chat template "tool_use" cannot be used: tokenizer_config.json gives no text for it
    "#]]
    .assert_eq(&messages(cases.iter().map(|files| {
        let (plain, tools) = rendered(files);
        format!("plain: {plain}\ntools: {tools}")
    })));
}

#[test]
fn special_tokens_are_filled_from_their_map() {
    let files = TokenizerFiles {
        special_tokens_map: Some(
            br#"{"eos_token": {"content": "<|im_end|>"}, "bos_token": "<|im_start|>", "image_token": "<img>"}"#,
        ),
        chat_template: Some(b"{{ bos_token }}{{ eos_token }}{{ image_token }}"),
        ..bundled_with(Some(br#"{"bos_token": "<|endoftext|>", "eos_token": null}"#))
    };
    assert_eq!(rendered(&files).0, "<|endoftext|><|im_end|><img>");
    let unknown = Tokenizer::from_files(&TokenizerFiles {
        special_tokens_map: Some(br#"{"bos_token": "<s>"}"#),
        ..bundled_with(Some(br#"{"add_bos_token": true}"#))
    });
    let said = unknown.unwrap_err().to_string();
    assert!(said.contains("special_tokens_map.json"), "{said}");
}

#[test]
fn limits_can_be_changed_on_a_shared_tokenizer() {
    let tokenizer = data::bundled();
    let limited = tokenizer.clone().with_template_limits(TemplateLimits {
        instructions: 5,
        output_bytes: 100,
    });
    assert!(matches!(
        limited.encode_chat(&one_message()),
        Err(TextError::TemplateTooLong { .. })
    ));
    assert!(tokenizer.encode_chat(&one_message()).is_ok());
}

/// Odd texts, up to a megabyte without a place to split, are encoded and come back.
#[test]
fn large_and_odd_texts_are_encoded() {
    let tokenizer = data::bundled();
    for text in [
        " ".repeat(1 << 20),
        "a".repeat(1 << 20),
        "<|im_end".repeat(1 << 16),
        "\0\u{feff}\u{10ffff}".into(),
    ] {
        let ids = tokenizer.encode_chat(&ChatRequest::new(vec![ChatMessage::new(
            Role::User,
            format!("x{text}x"),
        )]));
        let spelled = tokenizer.decode(&ids.unwrap(), false).unwrap();
        assert!(
            spelled.contains(&format!("x{text}x")),
            "{} characters",
            text.chars().count()
        );
    }
}

/// However deep a template fails, its message names the line and says the cause once.
#[test]
fn a_failure_inside_macros_and_loops_says_its_cause_once() {
    for (source, line) in [
        (
            "a\n{% macro m() %}\n\n{{ 1 + 'x' }}{% endmacro %}\n\n{{ m() }}",
            4,
        ),
        (
            "{% for i in [1] %}\r\n{% set x %}\r\n{{ i + 'x' }}{% endset %}{% endfor %}",
            3,
        ),
        (
            "{%- if true -%}\n\n  a\n  {{- 'b\nc'\n ~ (1 + 'x') }}{% endif %}",
            6,
        ),
        (
            "{% macro m() %}{{ caller() }}{% endmacro %}\n{% call m() %}\n{{ 1 + 'x' }}{% endcall %}",
            3,
        ),
    ] {
        let error = render(source, &one_message()).unwrap_err().to_string();
        assert_eq!(
            error.matches("tried to use").count(),
            1,
            "{source}: {error}"
        );
        assert!(
            error.contains(&format!("default:{line})")),
            "{source}: {error}"
        );
    }
}
