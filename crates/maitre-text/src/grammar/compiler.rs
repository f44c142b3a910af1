//! From what a request asks for to a grammar whose masks can be computed.

use std::fmt;
use std::panic::resume_unwind;
use std::sync::Arc;
use std::thread;

use llguidance::api::{GrammarWithLexer, TopLevelGrammar};
use llguidance::earley::SlicedBiasComputer;
use llguidance::toktrie::InferenceCapabilities;
use llguidance::{Matcher, ParserFactory};
use maitre_sampling::ConstraintSource;
use serde_json::Value;

use super::kept::Kept;
use super::limits::{
    COMPILE_FUEL, COMPILE_STACK, MASK_FUEL, MASK_ITEMS, MAX_GRAMMAR_BYTES, MAX_LEXER_STATES,
    MAX_REGEX_BYTES, MAX_ROW_ITEMS, MAX_SYMBOLS,
};
use super::matcher::{Grammar, Source, in_short};
use super::{GrammarError, GrammarSpec, ebnf, lark, regex_size, schema, trie};
use crate::Tokenizer;

/// Compiles grammars for one model. Made once: the trie of a large vocabulary takes a few hundred milliseconds.
pub struct GrammarCompiler {
    factory: ParserFactory,
    tokenizer: Tokenizer,
    eos: Arc<[u32]>,
    kept: Kept,
}

impl fmt::Debug for GrammarCompiler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GrammarCompiler").finish_non_exhaustive()
    }
}

impl GrammarCompiler {
    /// A compiler for a model that generates the tokens below `vocab_size`, of which `eos` end an answer.
    ///
    /// # Errors
    /// [`GrammarError::Tokenizer`] if the tokens do not say what bytes they stand for.
    pub fn new(
        tokenizer: &Tokenizer,
        vocab_size: usize,
        eos: &[u32],
    ) -> Result<Self, GrammarError> {
        let unusable = |error: anyhow::Error| GrammarError::Tokenizer {
            reason: in_short(&error.to_string()),
        };
        let environment = trie::environment(tokenizer, vocab_size, eos)?;
        let slices = SlicedBiasComputer::general_slices();
        let capabilities = InferenceCapabilities::default();
        let mut factory =
            ParserFactory::new(&environment, capabilities, &slices).map_err(unusable)?;
        factory.quiet();
        let limits = factory.limits_mut();
        limits.initial_lexer_fuel = COMPILE_FUEL;
        limits.step_lexer_fuel = MASK_FUEL;
        limits.step_max_items = MASK_ITEMS;
        limits.max_items_in_row = MAX_ROW_ITEMS;
        limits.max_lexer_states = MAX_LEXER_STATES;
        limits.max_grammar_size = MAX_SYMBOLS;
        limits.verbose_errors = false;
        Ok(Self {
            factory,
            tokenizer: tokenizer.clone(),
            eos: eos.into(),
            kept: Kept::default(),
        })
    }

    /// Compiles a grammar, or finds it among those that are kept. It takes microseconds to a few hundred milliseconds, and
    /// some stack, so it has no place on a thread that serves others.
    ///
    /// # Errors
    /// What is wrong with the grammar: see [`GrammarError`].
    pub fn compile(&self, spec: &GrammarSpec) -> Result<Arc<dyn ConstraintSource>, GrammarError> {
        let source = |grammar| -> Arc<dyn ConstraintSource> { Arc::new(Source(grammar)) };
        if let Some(kept) = self.kept.get(spec) {
            return Ok(source(kept));
        }
        let matcher = self.on_large_stack(|| self.matcher(spec))?;
        let grammar = Grammar::new(matcher, spec.kind(), Arc::clone(&self.eos));
        self.kept.keep(spec, &grammar);
        Ok(source(grammar))
    }

    /// The library recurses with the levels of a schema.
    fn on_large_stack<T: Send>(
        &self,
        work: impl FnOnce() -> Result<T, GrammarError> + Send,
    ) -> Result<T, GrammarError> {
        thread::scope(|scope| {
            let thread = thread::Builder::new()
                .name("maitre-grammar".to_owned())
                .stack_size(COMPILE_STACK)
                .spawn_scoped(scope, work);
            let thread = thread.map_err(|_| GrammarError::NoThread)?;
            thread.join().unwrap_or_else(|panic| resume_unwind(panic))
        })
    }

    fn matcher(&self, spec: &GrammarSpec) -> Result<Matcher, GrammarError> {
        // What was sent, without what a list takes beside its texts.
        let found = match spec {
            GrammarSpec::Choice(choices) => choices.iter().map(String::len).sum(),
            other => other.size_in_bytes(),
        };
        if found > MAX_GRAMMAR_BYTES {
            return Err(GrammarError::TooLarge {
                what: "its bytes are",
                found,
                limit: MAX_GRAMMAR_BYTES,
            });
        }
        let (grammar, schema) = self.grammar(spec)?;
        let failed = |error: &str| explain(spec, schema.as_ref(), error);
        let parser = self.factory.create_parser(grammar);
        let mut matcher = Matcher::new(parser);
        if let Some(error) = matcher.get_error() {
            return Err(failed(&error));
        }
        // The first mask is part of it: what cannot begin is refused here, and answers start with a lexer that is warm.
        match matcher.compute_mask() {
            Ok(mask) if !mask.is_zero() => Ok(matcher),
            Ok(_) => Err(failed("no token can begin an answer")),
            Err(error) => Err(failed(&error.to_string())),
        }
    }

    /// The grammar as the library takes it, and the schema in it, if it is one.
    fn grammar(
        &self,
        spec: &GrammarSpec,
    ) -> Result<(TopLevelGrammar, Option<Value>), GrammarError> {
        let of_schema = |schema: Value| {
            let grammar = TopLevelGrammar::from_json_schema(schema.clone());
            Ok((grammar, Some(schema)))
        };
        let of_lark = |text: String| Ok((TopLevelGrammar::from_lark(text), None));
        match spec {
            GrammarSpec::JsonSchema { schema, whitespace } => {
                of_schema(schema::prepared(schema, *whitespace)?)
            }
            GrammarSpec::JsonObject { whitespace } => of_schema(schema::any_object(*whitespace)),
            GrammarSpec::Regex(regex) => Ok((TopLevelGrammar::from_regex(whole(regex)?), None)),
            GrammarSpec::Grammar(text) if ebnf::is_ebnf(text) => of_lark(ebnf::to_lark(text)?),
            GrammarSpec::Grammar(text) => of_lark(schema::embedded_in(text)?),
            GrammarSpec::Choice(choices) => of_lark(lark::choice(choices)?),
            GrammarSpec::StructuralTag(tag) => of_lark(lark::structural_tag(tag, &self.tokenizer)?),
            GrammarSpec::Llguidance(text) => Ok((own(text)?, None)),
        }
    }
}

/// The pattern of a whole text. At its ends, `^` and `$` say nothing more.
fn whole(regex: &str) -> Result<&str, GrammarError> {
    if regex.len() > MAX_REGEX_BYTES {
        return Err(GrammarError::TooLarge {
            what: "its bytes are",
            found: regex.len(),
            limit: MAX_REGEX_BYTES,
        });
    }
    let inner = regex.strip_prefix('^').unwrap_or(regex);
    let before = inner.strip_suffix('$');
    let is_escaped = |text: &str| (text.len() - text.trim_end_matches('\\').len()) % 2 == 1;
    let inner = before.filter(|it| !is_escaped(it)).unwrap_or(inner);
    if inner.is_empty() {
        return Err(GrammarError::Invalid {
            expected: "a regular expression",
            reason: "it matches nothing but the empty text".to_owned(),
        });
    }
    regex_size::check(inner)?;
    Ok(inner)
}

/// A grammar in the library's own notation, whose schemas meet the same limits.
fn own(text: &str) -> Result<TopLevelGrammar, GrammarError> {
    let mut grammar = TopLevelGrammar::from_lark_or_grammar_list(text).map_err(|error| {
        GrammarError::Invalid {
            expected: "a grammar",
            reason: in_short(&error.to_string()),
        }
    })?;
    for GrammarWithLexer {
        json_schema,
        lark_grammar,
        ..
    } in &mut grammar.grammars
    {
        if let Some(schema) = json_schema {
            *schema = schema::embedded(schema.take())?;
        }
        if let Some(lark) = lark_grammar {
            *lark = schema::embedded_in(lark)?;
        }
    }
    Ok(grammar)
}

/// What the library says is wrong, in our words.
fn explain(spec: &GrammarSpec, schema: Option<&Value>, error: &str) -> GrammarError {
    let reason = in_short(error);
    // Of a schema inside a grammar: what is wrong with the schema.
    let inner = reason.rsplit_once("failed to compile JSON schema: ");
    let reason = inner.map_or(reason.as_str(), |(_, inner)| inner).to_owned();
    let reason = match reason.contains("Regex is empty") {
        true => "a pattern in it matches no text".to_owned(),
        false => reason,
    };
    let says = |words: &[&str]| words.iter().any(|word| error.contains(word));
    if let Some(keys) = reason.strip_prefix("Unimplemented keys: ") {
        let keys: Vec<&str> = keys.split('"').skip(1).step_by(2).collect();
        let place = schema.and_then(|schema| schema::place_of(schema, &keys));
        let place = place.map_or_else(String::new, |place| format!(" at {place}"));
        return GrammarError::Unsupported {
            reason: format!("{}{place} is not supported", keys.join(", ")),
        };
    }
    if reason.starts_with("oneOf constraints") {
        return GrammarError::Unsupported {
            reason: "oneOf is supported only where its options can be told apart, by their types or by a property that \
                     is a different constant in each"
                .to_owned(),
        };
    }
    if error.contains("patternProperty regexes") {
        let place = schema.and_then(|schema| schema::place_of(schema, &["patternProperties"]));
        let place = place.map_or_else(String::new, |place| format!(" at {place}"));
        return GrammarError::Unsupported {
            reason: format!(
                "patternProperties{place} is supported only where no name matches two of its patterns"
            ),
        };
    }
    if says(&["Unknown format", "not supported", "only supported"]) {
        return GrammarError::Unsupported { reason };
    }
    if says(&[
        "fuel",
        "too many",
        "too large",
        "too big",
        "too complex",
        "limit",
        "stack level",
    ]) {
        return GrammarError::TooComplex { reason };
    }
    let expected = match spec {
        GrammarSpec::JsonSchema { .. } | GrammarSpec::JsonObject { .. } => {
            "a JSON schema that can be met"
        }
        GrammarSpec::Regex(_) => "a regular expression",
        GrammarSpec::Choice(_) => "a list of texts to choose from",
        GrammarSpec::StructuralTag(_) => "a structural tag",
        GrammarSpec::Grammar(_) | GrammarSpec::Llguidance(_) => "a grammar",
    };
    GrammarError::Invalid { expected, reason }
}
