//! How families of models mark their thoughts.

/// How a family of models marks what it thinks before it answers.
#[derive(Debug, PartialEq, Eq)]
pub struct ReasoningFormat {
    /// Its name, as the flag `--reasoning-format` takes it.
    pub name: &'static str,
    /// The models that write it.
    pub models: &'static str,
    /// The mark a thought begins with.
    pub open: &'static str,
    /// The mark it ends with.
    pub close: &'static str,
    /// What ends a thought in the model's stead, such as when its budget is spent: the mark with the white space
    /// around it that the model was trained on. After it the model answers.
    pub forced_close: &'static str,
    /// Marks that are special tokens in the family's tokenizers. Text without special tokens lacks them, so a
    /// detokenizer has to keep them.
    pub special_tokens: &'static [&'static str],
    /// How a chat template is known to be of this family: it contains one of these texts.
    recognised_by: &'static [&'static str],
}

/// Where an answer starts, as the end of its prompt tells.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Thought {
    /// The model begins a thought itself, or does not think.
    #[default]
    Unopened,
    /// The prompt has opened it: the answer begins inside.
    Open,
    /// The prompt has closed it: the answer is what the model says.
    Closed,
}

const HARMONY: &str = "harmony";

static FORMATS_OF_THOUGHT: &[ReasoningFormat] = &[
    ReasoningFormat {
        name: HARMONY,
        models: "gpt-oss",
        open: "<|channel|>analysis<|message|>",
        close: "<|end|>",
        forced_close: "<|end|><|start|>assistant<|channel|>final<|message|>",
        special_tokens: &["<|start|>", "<|channel|>", "<|message|>", "<|end|>"],
        recognised_by: &["<|channel|>analysis"],
    },
    ReasoningFormat {
        name: "gemma4",
        models: "Gemma 4",
        open: "<|channel>thought\n",
        close: "<channel|>",
        forced_close: "<channel|>",
        special_tokens: &["<|channel>", "<channel|>"],
        recognised_by: &["<|channel>thought"],
    },
    ReasoningFormat {
        name: "mistral",
        models: "Magistral, Ministral 3 Reasoning",
        open: "[THINK]",
        close: "[/THINK]",
        forced_close: "[/THINK]",
        special_tokens: &["[THINK]", "[/THINK]"],
        recognised_by: &["[THINK]"],
    },
    ReasoningFormat {
        name: "seed_oss",
        models: "Seed-OSS",
        open: "<seed:think>",
        close: "</seed:think>",
        forced_close: "</seed:think>",
        special_tokens: &["<seed:think>", "</seed:think>"],
        recognised_by: &["<seed:think>", "</seed:think>"],
    },
    ReasoningFormat {
        name: "minimax_m3",
        models: "MiniMax M3",
        open: "<mm:think>",
        close: "</mm:think>",
        forced_close: "</mm:think>",
        special_tokens: &["<mm:think>", "</mm:think>"],
        recognised_by: &["<mm:think>"],
    },
    ReasoningFormat {
        name: "command",
        models: "Command R7B, Command A",
        open: "<|START_THINKING|>",
        close: "<|END_THINKING|>",
        forced_close: "<|END_THINKING|>",
        special_tokens: &["<|START_THINKING|>", "<|END_THINKING|>"],
        recognised_by: &["<|START_THINKING|>"],
    },
    ReasoningFormat {
        name: "apertus",
        models: "Apertus",
        open: "<|inner_prefix|>",
        close: "<|inner_suffix|>",
        forced_close: "<|inner_suffix|>",
        special_tokens: &["<|inner_prefix|>", "<|inner_suffix|>"],
        recognised_by: &["<|inner_prefix|>"],
    },
    ReasoningFormat {
        name: "kimi_vl",
        models: "Kimi-VL Thinking",
        open: "◁think▷",
        close: "◁/think▷",
        forced_close: "◁/think▷",
        special_tokens: &[],
        recognised_by: &["◁think▷"],
    },
    ReasoningFormat {
        name: "think",
        models: "DeepSeek R1 and V3.1, Qwen3, QwQ, GLM 4.5, Kimi K2 Thinking, MiniMax M2, Nemotron, and most others",
        open: "<think>",
        close: "</think>",
        forced_close: "\n</think>\n\n",
        special_tokens: &["<think>", "</think>"],
        recognised_by: &["<think>", "</think>"],
    },
    ReasoningFormat {
        name: "granite",
        models: "Granite 3.2, 3.3",
        open: "Here is my thought process:",
        close: "Here is my response:",
        forced_close: "\n\nHere is my response:\n\n",
        special_tokens: &[],
        recognised_by: &["Here is my thought process:"],
    },
];

impl ReasoningFormat {
    /// The format of this name.
    pub fn named(name: &str) -> Option<&'static Self> {
        FORMATS_OF_THOUGHT.iter().find(|format| format.name == name)
    }

    /// All formats.
    pub fn all() -> impl Iterator<Item = &'static Self> {
        FORMATS_OF_THOUGHT.iter()
    }

    /// The format that a chat template shows.
    pub fn of_template(template: &str) -> Option<&'static Self> {
        FORMATS_OF_THOUGHT.iter().find(|format| {
            format
                .recognised_by
                .iter()
                .any(|text| template.contains(text))
        })
    }

    /// Whether thoughts are messages on a channel of their own.
    pub(super) fn has_channels(&self) -> bool {
        self.name == HARMONY
    }

    /// Where an answer begins that goes on with `text`, a message of the model's.
    pub fn within(&self, text: &str) -> Thought {
        let open = text.rfind(self.open.trim());
        let close = text.rfind(self.close.trim());
        match (open, close) {
            (Some(open), close) if close.is_none_or(|close| close < open) => Thought::Open,
            _ if text.trim_end().ends_with(self.close.trim()) => Thought::Closed,
            _ => Thought::Unopened,
        }
    }

    /// Where the answer to `prompt` begins. Templates open or close the thought in the prompt depending on their
    /// arguments, so the rendered prompt tells and not the template. Only the end of the prompt is looked at.
    pub fn after(&self, prompt: &str) -> Thought {
        let end = prompt.trim_end();
        match () {
            () if end.ends_with(self.open.trim()) => Thought::Open,
            () if end.ends_with(self.close.trim()) => Thought::Closed,
            () => Thought::Unopened,
        }
    }
}
