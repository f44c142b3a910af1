//! The formats, one row a family. The first row that recognises a chat template is the template's, so rows with
//! rarer marks come first.
//!
//! The marks are facts of the families' published templates and tokenizers.

use super::description::{
    Arguments, Body, Marked, NameSuffix, Parameters, Placement, Syntax, ToolFormat,
};
use super::literal::Dialect;

/// A row's most common syntax, to be changed where the family differs.
const PLAIN: Marked = Marked {
    section: None,
    call_open: "",
    short_open: "",
    body: ENVELOPE,
    call_close: "",
    between: "",
    placement: Placement::Anywhere,
    ends_thought: false,
};

const ENVELOPE: Body = Body::Envelope {
    arguments: "arguments",
    id: false,
};

const fn named(arguments_open: &'static str, arguments: Arguments) -> Body {
    Body::Named {
        suffix: NameSuffix::None,
        arguments_open,
        arguments,
    }
}

/// `<parameter=NAME>` elements, each on lines of its own.
const QWEN_PARAMETERS: Parameters = Parameters {
    open: "<parameter=",
    key_close: ">",
    json_key_close: None,
    value_close: "</parameter>\n",
    own_lines: true,
};

const fn dsml(section: (&'static str, &'static str)) -> Syntax {
    Syntax::Marked(Marked {
        section: Some(section),
        call_open: "<｜DSML｜invoke name=\"",
        body: named(
            "\">\n",
            Arguments::Parameters(Parameters {
                open: "<｜DSML｜parameter name=\"",
                key_close: "\" string=\"true\">",
                json_key_close: Some("\" string=\"false\">"),
                value_close: "</｜DSML｜parameter>\n",
                own_lines: false,
            }),
        ),
        call_close: "</｜DSML｜invoke>",
        between: "\n",
        ends_thought: true,
        ..PLAIN
    })
}

const fn gemma(open: &'static str, close: &'static str, quote: &'static str) -> Syntax {
    Syntax::Marked(Marked {
        call_open: open,
        body: named("{", Arguments::Literals(Dialect::Gemma(quote))),
        call_close: close,
        ..PLAIN
    })
}

const DEEPSEEK_SECTION: Option<(&str, &str)> =
    Some(("<｜tool▁calls▁begin｜>", "<｜tool▁calls▁end｜>"));
const DEEPSEEK_SPECIAL: &[&str] = &[
    "<｜tool▁calls▁begin｜>",
    "<｜tool▁call▁begin｜>",
    "<｜tool▁sep｜>",
    "<｜tool▁call▁end｜>",
    "<｜tool▁calls▁end｜>",
];

/// All formats.
static FORMATS: &[ToolFormat] = &[
    ToolFormat {
        name: "harmony",
        models: "gpt-oss",
        special_tokens: &[
            "<|start|>",
            "<|channel|>",
            "<|constrain|>",
            "<|message|>",
            "<|end|>",
            "<|call|>",
            "<|return|>",
        ],
        recognised_by: &[&["<|channel|>", "<|message|>", "<|call|>"]],
        syntax: Syntax::Channels,
    },
    ToolFormat {
        name: "deepseek_v4",
        models: "DeepSeek V4",
        special_tokens: &["｜DSML｜"],
        recognised_by: &[&["｜DSML｜", "tool_calls>"]],
        syntax: dsml(("<｜DSML｜tool_calls>\n", "\n</｜DSML｜tool_calls>")),
    },
    ToolFormat {
        name: "deepseek_v32",
        models: "DeepSeek V3.2",
        special_tokens: &["｜DSML｜"],
        recognised_by: &[&["｜DSML｜"]],
        syntax: dsml(("<｜DSML｜function_calls>\n", "\n</｜DSML｜function_calls>")),
    },
    ToolFormat {
        name: "deepseek_v3",
        models: "DeepSeek V3, R1",
        special_tokens: DEEPSEEK_SPECIAL,
        recognised_by: &[&["<｜tool▁sep｜>", "```json"]],
        syntax: Syntax::Marked(Marked {
            section: DEEPSEEK_SECTION,
            call_open: "<｜tool▁call▁begin｜>function<｜tool▁sep｜>",
            body: named("\n```json\n", Arguments::Json),
            call_close: "\n```<｜tool▁call▁end｜>",
            between: "\n",
            ends_thought: true,
            ..PLAIN
        }),
    },
    ToolFormat {
        name: "deepseek_v31",
        models: "DeepSeek V3.1",
        special_tokens: DEEPSEEK_SPECIAL,
        recognised_by: &[&["<｜tool▁sep｜>"]],
        syntax: Syntax::Marked(Marked {
            section: DEEPSEEK_SECTION,
            call_open: "<｜tool▁call▁begin｜>",
            body: named("<｜tool▁sep｜>", Arguments::Json),
            call_close: "<｜tool▁call▁end｜>",
            ends_thought: true,
            ..PLAIN
        }),
    },
    ToolFormat {
        name: "kimi_k2",
        models: "Kimi K2",
        special_tokens: &[
            "<|tool_calls_section_begin|>",
            "<|tool_call_begin|>",
            "<|tool_call_argument_begin|>",
            "<|tool_call_end|>",
            "<|tool_calls_section_end|>",
        ],
        recognised_by: &[&["<|tool_call_argument_begin|>"]],
        syntax: Syntax::Marked(Marked {
            section: Some(("<|tool_calls_section_begin|>", "<|tool_calls_section_end|>")),
            call_open: "<|tool_call_begin|>",
            body: Body::Named {
                suffix: NameSuffix::Index("functions."),
                arguments_open: "<|tool_call_argument_begin|>",
                arguments: Arguments::Json,
            },
            call_close: "<|tool_call_end|>",
            ends_thought: true,
            ..PLAIN
        }),
    },
    ToolFormat {
        name: "minimax_m2",
        models: "MiniMax M2",
        special_tokens: &["<minimax:tool_call>", "</minimax:tool_call>"],
        recognised_by: &[&["<minimax:tool_call>"]],
        syntax: Syntax::Marked(Marked {
            section: Some(("<minimax:tool_call>\n", "\n</minimax:tool_call>")),
            call_open: "<invoke name=\"",
            body: named(
                "\">\n",
                Arguments::Parameters(Parameters {
                    open: "<parameter name=\"",
                    key_close: "\">",
                    json_key_close: None,
                    value_close: "</parameter>\n",
                    own_lines: false,
                }),
            ),
            call_close: "</invoke>",
            between: "\n",
            ..PLAIN
        }),
    },
    ToolFormat {
        name: "minimax_m1",
        models: "MiniMax M1",
        special_tokens: &[],
        recognised_by: &[&["<beginning_of_sentence>", "<tool_calls>"]],
        syntax: Syntax::Marked(Marked {
            section: Some(("<tool_calls>\n", "\n</tool_calls>")),
            between: "\n",
            ..PLAIN
        }),
    },
    ToolFormat {
        name: "seed_oss",
        models: "Seed-OSS",
        special_tokens: &["<seed:tool_call>", "</seed:tool_call>"],
        recognised_by: &[&["<seed:tool_call>"]],
        syntax: Syntax::Marked(Marked {
            call_open: "<seed:tool_call>\n<function=",
            body: named(
                ">\n",
                Arguments::Parameters(Parameters {
                    own_lines: false,
                    ..QWEN_PARAMETERS
                }),
            ),
            call_close: "</function>\n</seed:tool_call>",
            between: "\n",
            ..PLAIN
        }),
    },
    ToolFormat {
        name: "glm",
        models: "GLM 4.5 and later, Ling 3, Laguna",
        special_tokens: &[
            "<tool_call>",
            "</tool_call>",
            "<arg_key>",
            "</arg_key>",
            "<arg_value>",
            "</arg_value>",
        ],
        recognised_by: &[&["<arg_key>", "<tool_call>"]],
        syntax: Syntax::Marked(Marked {
            call_open: "<tool_call>",
            body: named(
                "\n",
                Arguments::Parameters(Parameters {
                    open: "<arg_key>",
                    key_close: "</arg_key>\n<arg_value>",
                    json_key_close: None,
                    value_close: "</arg_value>\n",
                    own_lines: false,
                }),
            ),
            call_close: "</tool_call>",
            between: "\n",
            ..PLAIN
        }),
    },
    ToolFormat {
        name: "qwen3_coder",
        models: "Qwen3-Coder, Qwen3.5, Step 3.5",
        special_tokens: &["<tool_call>", "</tool_call>"],
        recognised_by: &[&["<tool_call>", "<function=", "<parameter="]],
        syntax: Syntax::Marked(Marked {
            call_open: "<tool_call>\n<function=",
            short_open: "<function=",
            body: named(">\n", Arguments::Parameters(QWEN_PARAMETERS)),
            call_close: "</function>\n</tool_call>",
            between: "\n",
            ..PLAIN
        }),
    },
    ToolFormat {
        name: "function_tag",
        models: "Functionary 3.1, Llama 3.1 with user-defined calls",
        special_tokens: &[],
        recognised_by: &[&["<function="]],
        syntax: Syntax::Marked(Marked {
            call_open: "<function=",
            body: named(">", Arguments::Json),
            call_close: "</function>",
            between: "\n",
            ..PLAIN
        }),
    },
    ToolFormat {
        name: "nemotron",
        models: "Nemotron Nano 2",
        special_tokens: &["<TOOLCALL>", "</TOOLCALL>"],
        recognised_by: &[&["<TOOLCALL>"]],
        syntax: Syntax::Marked(Marked {
            section: Some(("<TOOLCALL>[", "]</TOOLCALL>")),
            between: ", ",
            ..PLAIN
        }),
    },
    ToolFormat {
        name: "apriel",
        models: "Apriel",
        special_tokens: &["<tool_calls>", "</tool_calls>"],
        recognised_by: &[&["<tool_calls>["]],
        syntax: Syntax::Marked(Marked {
            section: Some(("<tool_calls>[", "]</tool_calls>")),
            body: Body::Envelope {
                arguments: "arguments",
                id: true,
            },
            between: ", ",
            ..PLAIN
        }),
    },
    ToolFormat {
        name: "phi4",
        models: "Phi-4-mini",
        special_tokens: &["<|tool_call|>", "<|/tool_call|>"],
        recognised_by: &[
            &["<|tool_call|>", "<|/tool_call|>"],
            &["<|tool|>", "<|/tool|>"],
        ],
        syntax: Syntax::Marked(Marked {
            section: Some(("<|tool_call|>[", "]<|/tool_call|>")),
            between: ", ",
            ..PLAIN
        }),
    },
    ToolFormat {
        name: "phi4_functools",
        models: "Phi-4-mini with vLLM's template",
        special_tokens: &[],
        recognised_by: &[&["functools["]],
        syntax: Syntax::Marked(Marked {
            section: Some(("functools[", "]")),
            between: ", ",
            ..PLAIN
        }),
    },
    ToolFormat {
        name: "gemma4",
        models: "Gemma 4",
        special_tokens: &["<|tool_call>", "<tool_call|>", "<|\"|>"],
        recognised_by: &[&["<|tool_call>call:"]],
        syntax: gemma("<|tool_call>call:", "}<tool_call|>", "<|\"|>"),
    },
    ToolFormat {
        name: "functiongemma",
        models: "FunctionGemma",
        special_tokens: &["<start_function_call>", "<end_function_call>", "<escape>"],
        recognised_by: &[&["<start_function_call>"]],
        syntax: gemma(
            "<start_function_call>call:",
            "}<end_function_call>",
            "<escape>",
        ),
    },
    ToolFormat {
        name: "lfm2",
        models: "LFM2",
        special_tokens: &["<|tool_call_start|>", "<|tool_call_end|>"],
        recognised_by: &[&["<|tool_call_start|>"], &["<|tool_list_start|>"]],
        syntax: Syntax::Marked(Marked {
            section: Some(("<|tool_call_start|>[", "]<|tool_call_end|>")),
            body: named("(", Arguments::Literals(Dialect::Python)),
            call_close: ")",
            between: ", ",
            ..PLAIN
        }),
    },
    ToolFormat {
        name: "mistral_v11",
        models: "Mistral Small 3.2, Magistral, Ministral 3 and later",
        special_tokens: &["[TOOL_CALLS]", "[CALL_ID]", "[ARGS]"],
        recognised_by: &[&["[TOOL_CALLS]", "[ARGS]"]],
        syntax: Syntax::Marked(Marked {
            call_open: "[TOOL_CALLS]",
            body: Body::Named {
                suffix: NameSuffix::Id("[CALL_ID]"),
                arguments_open: "[ARGS]",
                arguments: Arguments::Json,
            },
            ..PLAIN
        }),
    },
    ToolFormat {
        name: "mistral",
        models: "Mistral 7B v0.3, Nemo, Small 3.1, Large 2",
        special_tokens: &["[TOOL_CALLS]"],
        recognised_by: &[&["[TOOL_CALLS]"]],
        syntax: Syntax::Marked(Marked {
            section: Some(("[TOOL_CALLS][", "]")),
            body: Body::Envelope {
                arguments: "arguments",
                id: true,
            },
            between: ", ",
            ..PLAIN
        }),
    },
    ToolFormat {
        name: "hermes",
        models: "Hermes, Qwen2.5, Qwen3, Granite 4, MiMo",
        special_tokens: &["<tool_call>", "</tool_call>"],
        recognised_by: &[&["<tool_call>", "\"arguments"]],
        syntax: Syntax::Marked(Marked {
            call_open: "<tool_call>\n",
            call_close: "\n</tool_call>",
            between: "\n",
            ..PLAIN
        }),
    },
    ToolFormat {
        name: "granite",
        models: "Granite 3",
        special_tokens: &["<|tool_call|>"],
        recognised_by: &[
            &["<|tool_call|>"],
            &["<|start_of_role|>", "available_tools"],
        ],
        syntax: Syntax::Marked(Marked {
            section: Some(("<|tool_call|>[", "]")),
            between: ", ",
            ..PLAIN
        }),
    },
    ToolFormat {
        name: "pythonic",
        models: "Llama 3.2 and 4, Gemma 3, ToolACE with pythonic templates",
        special_tokens: &["<|python_start|>", "<|python_end|>"],
        recognised_by: &[
            &["func_name1(param"],
            &["<|python_start|>", "<|header_start|>"],
        ],
        syntax: Syntax::Marked(Marked {
            section: Some(("[", "]")),
            body: named("(", Arguments::Literals(Dialect::Python)),
            call_close: ")",
            between: ", ",
            placement: Placement::Start(Some(("<|python_start|>", "<|python_end|>"))),
            ..PLAIN
        }),
    },
    ToolFormat {
        name: "llama3_json",
        models: "Llama 3.1, 3.2, 3.3",
        special_tokens: &["<|python_tag|>"],
        recognised_by: &[
            &["<|python_tag|>"],
            &["<|start_header_id|>", "\"parameters\""],
        ],
        syntax: Syntax::Marked(Marked {
            body: Body::Envelope {
                arguments: "parameters",
                id: false,
            },
            between: "; ",
            placement: Placement::Start(Some(("<|python_tag|>", ""))),
            ..PLAIN
        }),
    },
];

impl ToolFormat {
    /// The format of this name.
    pub fn named(name: &str) -> Option<&'static Self> {
        FORMATS.iter().find(|format| format.name == name)
    }

    /// All formats.
    pub fn all() -> impl Iterator<Item = &'static Self> {
        FORMATS.iter()
    }

    /// The format that a chat template shows.
    pub fn of_template(template: &str) -> Option<&'static Self> {
        let shows = |texts: &&[&str]| texts.iter().all(|text| template.contains(text));
        FORMATS
            .iter()
            .find(|format| format.recognised_by.iter().any(shows))
    }

    /// Whether calls are messages of a channel.
    pub(super) fn has_channels(&self) -> bool {
        self.syntax == Syntax::Channels
    }
}
