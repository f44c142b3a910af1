//! The draft model: loaded beside the model it drafts for, and refused if it can't.
//!
//! A drafted token is an id, so both models must mean the same by it; and the draft's keys and values lie in
//! the target's blocks, so it must attend to no more than what these hold.

use std::sync::Arc;

use maitre_model::{Footprint, Model, ModelSource, Reads, Runner, RunnerConfig};
use maitre_speculative::{DraftModel, DraftModelConfig, Drafter, Speculate};
use maitre_tensor::Backend;
use maitre_text::Tokenizer;

use crate::observe::info::{DraftInfo, EngineLimits};
use crate::start::build::{narrow, short_name};
use crate::start::load_tokenizer::ModelText;
use crate::{EngineBuilder, StartError};

/// A draft model that fits its target.
pub(crate) struct LoadedDraft {
    pub(crate) model: Arc<Model>,
    name: String,
}

impl EngineBuilder {
    /// Loads the draft model, if there is to be one.
    pub(crate) fn load_draft(
        &self,
        target: &Model,
        text: &ModelText,
        backend: &Backend,
    ) -> Result<Option<LoadedDraft>, StartError> {
        let Some(source) = self.draft_source() else {
            return Ok(None);
        };
        check_groups(source, target.footprint())?;
        let name = short_name(source);
        let model = Model::load_drafter(source, &self.load, backend, &self.load_observer.of(&name))
            .map_err(StartError::draft_model)?;
        check_vocabulary(source, &model, &self.source, target, text)?;
        Ok(Some(LoadedDraft {
            model: Arc::new(model),
            name,
        }))
    }

    /// The draft model's files, where one is wanted.
    pub(crate) fn draft_source(&self) -> Option<&ModelSource> {
        let wanted = matches!(
            self.speculation.speculate,
            Speculate::Draft | Speculate::Auto
        );
        self.draft.as_ref().filter(|_| wanted)
    }
}

impl LoadedDraft {
    pub(crate) fn info(&self, target: &Model) -> DraftInfo {
        DraftInfo {
            model: self.name.clone(),
            parameters: self.model.config().num_parameters(),
            dtype: self.model.dtype().to_string(),
            share: self.model.weight_bytes() as f64 / target.weight_bytes().max(1) as f64,
        }
    }

    /// A runner with the target's blocks, and the bytes of its workspace.
    pub(crate) fn start(
        self,
        limits: &EngineLimits,
        vocab_size: usize,
        backend: &Backend,
    ) -> Result<(Box<dyn Drafter>, u64), StartError> {
        // The target may compute one token a step; the draft would fall behind for good.
        let at_once = limits
            .max_batched_tokens
            .max(DraftModel::LEAST_BATCHED_TOKENS);
        let config = RunnerConfig {
            max_output_rows_per_step: limits.max_seqs,
            ..RunnerConfig::new(
                narrow(limits.num_blocks),
                narrow(limits.block_size),
                at_once,
                limits.max_seqs,
            )
        };
        let runner = Runner::new(self.model, backend.clone(), config)?;
        let workspace = runner.workspace_bytes() as u64;
        let config = DraftModelConfig {
            num_blocks: limits.num_blocks,
            block_size: limits.block_size,
            max_batched_tokens: at_once,
            max_context_len: runner.limits().max_context_len,
            vocab_size,
        };
        Ok((
            Box::new(DraftModel::new(Box::new(runner), config)),
            workspace,
        ))
    }
}

/// The target must have blocks that it does not give back.
pub(crate) fn check_groups(
    draft_source: &ModelSource,
    target: &Footprint,
) -> Result<(), StartError> {
    let mut groups = target.kv_layout().groups.iter();
    if groups.any(|group| group.reads == Reads::Full) {
        return Ok(());
    }
    Err(StartError::Setting {
        setting: "--draft-model",
        found: draft_source.to_string(),
        expected: "none: all layers of this model attend through windows, and a draft model can't share blocks that are \
             given back; --speculate suffix needs none"
            .to_owned(),
    })
}

/// Both models must call the same tokens by the same numbers.
fn check_vocabulary(
    draft_source: &ModelSource,
    draft: &Model,
    target_source: &ModelSource,
    target: &Model,
    text: &ModelText,
) -> Result<(), StartError> {
    let differs = |difference: String| StartError::DraftVocabulary {
        draft: draft_source.to_string(),
        difference,
    };
    let (rows, needed) = (draft.config().vocab_size, text.usable_ids);
    if rows < needed {
        return Err(differs(format!(
            "it has {rows} tokens, the model it is to draft for has {needed}"
        )));
    }
    let json = draft_source
        .read("tokenizer.json")
        .map_err(StartError::draft_model)?;
    let same_file = json == target_source.read("tokenizer.json")?;
    match json {
        // The same file, or none for either: weights made up from a configuration alone.
        _ if same_file => Ok(()),
        None => Err(differs(format!(
            "it has no tokenizer.json to tell what its {rows} tokens mean (the target has {} rows)",
            target.config().vocab_size
        ))),
        Some(json) => {
            let other =
                Tokenizer::from_bytes(&json, None, None).map_err(StartError::draft_model)?;
            let tokenizer = &text.tokenizer;
            let text = |tokenizer: &Tokenizer, id| tokenizer.token_text(id).unwrap_or_default();
            let ids = 0..u32::try_from(needed).unwrap_or(u32::MAX);
            match ids
                .into_iter()
                .find(|&id| text(tokenizer, id) != text(&other, id))
            {
                None => Ok(()),
                Some(id) => Err(differs(format!(
                    "token {id} is {:?} to it and {:?} to the model it is to draft for",
                    text(&other, id),
                    text(tokenizer, id)
                ))),
            }
        }
    }
}
