//! What can go wrong between text and tokens: one enum for the crate. Every message says what
//! happened, what was expected, and what to do about it.

/// Everything this crate refuses or fails at.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TextError {
    /// `tokenizer.json` is not a tokenizer that the tokenizers library can build.
    #[error(
        "tokenizer.json cannot be used: {reason}; expected the file a Hugging Face fast tokenizer saves"
    )]
    InvalidTokenizer {
        /// What the reader stumbled over.
        reason: String,
    },
    /// A file beside `tokenizer.json` is not a JSON object, or a field has the wrong type.
    #[error("{file} cannot be used: {reason}")]
    InvalidConfig {
        /// The file: `tokenizer_config.json`, `special_tokens_map.json` or `chat_template.json`.
        file: &'static str,
        /// The field or the parser's position, and what was expected there.
        reason: String,
    },
    /// The tokenizer's decoder cannot be run one token at a time.
    #[error(
        "tokenizer.json's decoder {decoder} is not supported; supported are ByteLevel, and sequences of \
         Replace, Metaspace, Strip and ByteFallback that may end in Fuse and Strip"
    )]
    UnsupportedDecoder {
        /// The decoder's type, or the type that stands where it cannot be streamed.
        decoder: String,
    },
    /// A special token that a prompt begins with is absent from the vocabulary.
    #[error(
        "{name} is {content:?} in {file}, but tokenizer.json has no such token; the two files must come from the same model"
    )]
    UnknownSpecialToken {
        /// The configuration's field, such as `bos_token`.
        name: &'static str,
        /// The file that has it.
        file: &'static str,
        /// The token's text.
        content: String,
    },
    /// The tokenizers library could not encode a text.
    #[error("the text could not be tokenized: {reason}")]
    Encode {
        /// The library's message.
        reason: String,
    },
    /// A chat was sent to a model that comes without a chat template.
    #[error(
        "the model has no chat template; send a plain prompt, or add chat_template.jinja to the model's directory"
    )]
    NoChatTemplate,
    /// The chat template does not parse, or is not there under its name.
    #[error("the chat template {name:?} cannot be used: {reason}")]
    InvalidTemplate {
        /// Which of the model's templates, `default` if it has one only.
        name: String,
        /// The parser's message with the line.
        reason: String,
    },
    /// A chat without messages.
    #[error("a chat needs at least one message")]
    NoMessages,
    /// The last message is to be continued, and cannot be.
    #[error("the last message cannot be continued: {reason}")]
    NothingToContinue {
        /// Why not, and what was expected.
        reason: &'static str,
    },
    /// A message's role is none of those that exist.
    #[error(
        "unknown chat role {role:?}; expected one of: system, developer, user, assistant, tool"
    )]
    UnknownRole {
        /// The role as it was given.
        role: String,
    },
    /// A template argument would replace something that the request itself defines.
    #[error("template argument {name:?} is reserved: it is taken from the request's own fields")]
    ReservedTemplateArgument {
        /// The argument's name.
        name: String,
    },
    /// The template called `raise_exception`: it refuses this conversation.
    #[error("the model's chat template refuses this conversation: {message}")]
    TemplateRefused {
        /// The template author's words.
        message: String,
    },
    /// The template failed while it ran (undefined value, wrong type, too deep a recursion, …).
    #[error("the model's chat template failed: {reason}")]
    TemplateFailed {
        /// The template engine's message with the line.
        reason: String,
    },
    /// The template ran for longer than it may.
    #[error("the model's chat template did not finish within {limit_instructions} instructions")]
    TemplateTooLong {
        /// [`TemplateLimits::instructions`](crate::TemplateLimits::instructions).
        limit_instructions: u64,
    },
    /// The template wrote more than it may.
    #[error("the model's chat template wrote more than {limit_bytes} bytes")]
    TemplateOutputTooLarge {
        /// [`TemplateLimits::output_bytes`](crate::TemplateLimits::output_bytes).
        limit_bytes: usize,
    },
    /// Text in a message imitates a control token, and no Unicode noncharacter is free to mask it.
    #[error(
        "text in this conversation imitates control tokens and cannot be told apart from them: it uses \
         (nearly) all of Unicode's 66 noncharacters itself; remove the noncharacters or the imitations"
    )]
    Unmaskable,
    /// A tool of a request cannot be offered to a model.
    #[error("the tool {name:?} cannot be used: {reason}")]
    InvalidTool {
        /// The tool's name, as far as it has one.
        name: String,
        /// What is wrong, and what was expected.
        reason: String,
    },
    /// A strict tool's schema says what calls in the model's format are not made to follow.
    #[error(
        "the strict tool {tool:?} says {keyword:?}{}, which calls in the format {format} are not made to follow; leave it out, or leave out strict",
        if argument.is_empty() { String::new() } else { format!(" of the argument {argument:?}") }
    )]
    StrictTool {
        /// The tool.
        tool: String,
        /// The format.
        format: &'static str,
        /// The argument, if it is of one.
        argument: String,
        /// The keyword.
        keyword: String,
    },
    /// What a request says about the calls of tools cannot be met.
    #[error("tool_choice cannot be met: {reason}")]
    ToolChoice {
        /// Why not.
        reason: String,
    },
}
