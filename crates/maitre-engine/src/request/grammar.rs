//! The form that a request's answers have to have: compiled before it is queued, away from the async workers.
//!
//! The compiler knows all tokens of the model by their bytes. It is made when the first request needs it, so that an
//! engine that never sees a grammar starts no later and takes no memory for it.

use maitre_text::grammar::{GrammarError, GrammarSpec};
use maitre_text::{ReasoningFormat, Thought, Tokenizer};

use crate::request::parts::Calls;
use crate::{ConstraintHandle, Violation};

/// What the answers of a request have to look like.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GrammarOptions {
    /// The form.
    pub spec: GrammarSpec,
    /// The text that ends the model's reasoning, such as `</think>`: everything up to it is free, and the form holds
    /// behind it. If the prompt ends with it, the form holds from the first token. `None`: no reasoning is expected.
    pub reasoning_end: Option<String>,
}

impl From<GrammarSpec> for GrammarOptions {
    fn from(spec: GrammarSpec) -> Self {
        Self {
            spec,
            reasoning_end: None,
        }
    }
}

/// Makes constraints of grammars, for one model.
#[derive(Debug)]
pub(crate) struct Grammars {
    tokenizer: Tokenizer,
    vocab_size: usize,
    eos: Vec<u32>,
    #[cfg(feature = "grammar")]
    made: made::Made,
}

impl Grammars {
    pub(crate) fn new(tokenizer: Tokenizer, vocab_size: usize, eos: Vec<u32>) -> Self {
        Self {
            tokenizer,
            vocab_size,
            eos,
            #[cfg(feature = "grammar")]
            made: made::Made::default(),
        }
    }

    /// The constraint of a request with this prompt.
    pub(crate) fn constraint(
        &self,
        options: &GrammarOptions,
        prompt: &[u32],
    ) -> Result<ConstraintHandle, Violation> {
        let field = format!("grammar.{}", options.spec.kind());
        self.compile(options, prompt)
            .map_err(|error| Violation::new(field, error.to_string()))
    }

    /// The constraint of a request that has to call a tool, or whose calls have to follow schemas.
    pub(crate) fn calls(&self, calls: Calls) -> Result<ConstraintHandle, Violation> {
        let compile = |grammar| self.compile(&GrammarSpec::Llguidance(grammar).into(), &[]);
        let refused = |error: GrammarError| {
            let description = format!("calls can't be made to follow the schemas: {error}");
            Violation::new("parts.tools", description)
        };
        match (compile(calls.grammar), calls.lenient) {
            (Ok(made), _) => Ok(made),
            (Err(error), Some(lenient)) if error != GrammarError::NotBuiltIn => {
                tracing::debug!(%error, "arguments of tools do not follow their schemas");
                compile(lenient).map_err(refused)
            }
            (Err(error), _) => Err(refused(error)),
        }
    }

    /// What ends a thought of more than `tokens`, with what holds beside it.
    #[cfg(feature = "grammar")]
    pub(crate) fn thinking_budget(
        &self,
        thinks: (&ReasoningFormat, Thought),
        tokens: u32,
        beside: Option<&ConstraintHandle>,
    ) -> Result<ConstraintHandle, GrammarError> {
        let beside = beside.map(ConstraintHandle::source);
        let budget = maitre_text::grammar::ThinkingBudget::new(
            &self.tokenizer,
            self.vocab_size,
            thinks,
            tokens,
            beside,
        );
        let unknown = || GrammarError::Tokenizer {
            reason: format!("it can't write the mark {:?}", thinks.0.close),
        };
        budget.map(ConstraintHandle::new).ok_or_else(unknown)
    }

    #[cfg(not(feature = "grammar"))]
    pub(crate) fn thinking_budget(
        &self,
        _thinks: (&ReasoningFormat, Thought),
        _tokens: u32,
        _beside: Option<&ConstraintHandle>,
    ) -> Result<ConstraintHandle, GrammarError> {
        Err(GrammarError::NotBuiltIn)
    }

    /// The id of a token that grammars name by its id.
    #[cfg(feature = "grammar")]
    pub(crate) fn control_token(&self, text: &str) -> Option<u32> {
        let id = maitre_text::grammar::control_token(text, &self.tokenizer)?;
        ((id as usize) < self.vocab_size).then_some(id)
    }

    #[cfg(not(feature = "grammar"))]
    pub(crate) fn control_token(&self, text: &str) -> Option<u32> {
        self.tokenizer.special_token_id(text)
    }

    #[cfg(not(feature = "grammar"))]
    fn compile(
        &self,
        _options: &GrammarOptions,
        _prompt: &[u32],
    ) -> Result<ConstraintHandle, GrammarError> {
        tracing::debug!(
            vocab_size = self.vocab_size,
            tokens = self.tokenizer.num_tokens(),
            eos = self.eos.len(),
            "a grammar was asked for"
        );
        Err(GrammarError::NotBuiltIn)
    }

    #[cfg(feature = "grammar")]
    fn compile(
        &self,
        options: &GrammarOptions,
        prompt: &[u32],
    ) -> Result<ConstraintHandle, GrammarError> {
        let compiler = self.made.compiler(self)?;
        let began = std::time::Instant::now();
        let compiled = compiler.compile(&options.spec);
        crate::observe::metrics::grammar_compiled(began.elapsed());
        let source = compiled?;
        let end = options.reasoning_end.as_deref().filter(|it| !it.is_empty());
        let Some(end) = end.and_then(|text| self.made.reasoning_end(self, text)) else {
            return Ok(source.into());
        };
        Ok(match end.has_passed(prompt) {
            true => source.into(),
            false => ConstraintHandle::new(maitre_text::grammar::AfterReasoning::new(source, end)),
        })
    }
}

/// What is made at first use.
#[cfg(feature = "grammar")]
mod made {
    use std::collections::HashMap;
    use std::sync::{Mutex, OnceLock, PoisonError};

    use maitre_text::grammar::{GrammarCompiler, GrammarError, ReasoningEnd};

    use super::Grammars;

    /// Marks that are kept: a model has one, and some requests may name another.
    const MOST_ENDS: usize = 4;

    #[derive(Debug, Default)]
    pub(super) struct Made {
        compiler: OnceLock<Result<GrammarCompiler, GrammarError>>,
        ends: Mutex<HashMap<String, ReasoningEnd>>,
    }

    impl Made {
        pub(super) fn compiler(&self, of: &Grammars) -> Result<&GrammarCompiler, GrammarError> {
            let make = || {
                let began = std::time::Instant::now();
                let made = GrammarCompiler::new(&of.tokenizer, of.vocab_size, &of.eos);
                let took_ms = began.elapsed().as_millis();
                tracing::info!(
                    took_ms,
                    tokens = of.vocab_size,
                    "the compiler of grammars is made"
                );
                made
            };
            let made = self.compiler.get_or_init(make);
            made.as_ref().map_err(Clone::clone)
        }

        pub(super) fn reasoning_end(&self, of: &Grammars, text: &str) -> Option<ReasoningEnd> {
            let lock = || self.ends.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(end) = lock().get(text) {
                return Some(end.clone());
            }
            let end = ReasoningEnd::new(&of.tokenizer, of.vocab_size, &of.eos, text)?;
            let mut ends = lock();
            if ends.len() >= MOST_ENDS {
                ends.clear();
            }
            ends.insert(text.to_owned(), end.clone());
            Some(end)
        }
    }
}
