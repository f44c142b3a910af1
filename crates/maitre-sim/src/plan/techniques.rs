//! What would move a box's limit: each technique by itself, searched again.

use serde::Serialize;

use super::Question;
use crate::{Drafter, KvDtype, ModelShape, SimError, Speculation, WeightDtype};

/// A technique.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Technique {
    /// What it is called.
    pub name: &'static str,
    /// What is changed.
    pub change: String,
    /// What comes of it.
    #[serde(flatten)]
    pub gain: Gain,
}

/// What a change makes of the load that a box serves.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Gain {
    /// The load that a box serves then, and how many times as much that is, for each device of the box.
    Serves {
        /// Load per box.
        load_per_box: f64,
        /// Load per device, divided by what it was. It is as exact as the [resolution](super::Plan::resolution) of the searches.
        times: f64,
    },
    /// Why it cannot be done.
    Impossible(String),
}

/// Tokens in a step that are tried in place of others.
const CHUNKS: [usize; 3] = [512, 2048, 8192];

impl Question {
    /// Searches with each technique, from the load that a box serves without.
    pub(super) fn gains(&self, load: f64) -> Result<Vec<Technique>, SimError> {
        let searched = self.changes().into_iter().map(|(name, change, changed)| {
            let gain = self.gain(&changed, load)?;
            Ok(Technique { name, change, gain })
        });
        let apart = std::iter::once_with(|| self.prefill_apart(load));
        searched.chain(apart).collect()
    }

    fn gain(&self, changed: &Self, load: f64) -> Result<Gain, SimError> {
        let devices = f64::from(changed.devices) / f64::from(self.devices);
        let found = changed
            .validate()
            .and_then(|()| changed.check_place())
            .and_then(|()| changed.capacity(load * devices));
        match found {
            Ok(capacity) => Ok(Gain::Serves {
                load_per_box: capacity.keeps.load,
                times: capacity.keeps.load / load / devices,
            }),
            Err(error) => Ok(Gain::Impossible(told(error)?)),
        }
    }

    /// Each technique's name, what it changes in words, and the question then.
    fn changes(&self) -> Vec<(&'static str, String, Self)> {
        let mut changes = Vec::new();
        let mut add = |name, change: String, changed: Self| changes.push((name, change, changed));
        for dtype in [WeightDtype::Fp8, WeightDtype::Int8, WeightDtype::Int4] {
            let mut changed = self.clone();
            changed.set_weights(dtype);
            if changed.model.weight_bytes() < 0.95 * self.model.weight_bytes() {
                add("quantize weights", format!("weights in {dtype}"), changed);
            }
        }
        for dtype in [KvDtype::Fp8, KvDtype::Int8] {
            let model = dtype.applied_to(&self.model);
            if model.bytes_per_kv_number < self.model.bytes_per_kv_number {
                add(
                    "quantize KV",
                    format!("KV cache in {}", dtype.name()),
                    self.with(model),
                );
            }
        }
        for max_seqs in [self.max_seqs / 2, self.max_seqs * 2] {
            if (1..=self.max_batched_tokens).contains(&max_seqs) {
                let change = format!("at most {max_seqs} sequences a step");
                add(
                    "batch",
                    change,
                    Self {
                        max_seqs,
                        ..self.clone()
                    },
                );
            }
        }
        for max_batched_tokens in CHUNKS {
            if max_batched_tokens != self.max_batched_tokens && max_batched_tokens >= self.max_seqs
            {
                let change = format!("at most {max_batched_tokens} tokens a step");
                add(
                    "chunk",
                    change,
                    Self {
                        max_batched_tokens,
                        ..self.clone()
                    },
                );
            }
        }
        let shared = (self.traffic.mean_lengths().0 / 2.0) as u32;
        if self.shared_prefix < shared && !matches!(self.traffic, super::Traffic::Trace(_)) {
            let change = format!("prompts begin alike for {shared} tokens");
            add(
                "share prefixes",
                change,
                Self {
                    shared_prefix: shared,
                    ..self.clone()
                },
            );
        }
        for speculation in self.speculations() {
            let by = match &speculation.drafter {
                Drafter::Lookup => String::new(),
                Drafter::Seconds(seconds) => format!(" of {seconds} s"),
                Drafter::Model(shape) => format!(" of {}", shape.name),
            };
            let drafts = match speculation.drafts {
                1 => "1 draft".to_owned(),
                drafts => format!("{drafts} drafts"),
            };
            let change = format!("at most {drafts} a step{by}");
            add(
                "speculate",
                change,
                Self {
                    speculation: Some(speculation),
                    ..self.clone()
                },
            );
        }
        let devices = self.devices * 2;
        let change = format!("{devices} devices a box, each with a part of every matrix");
        add(
            "tensor parallel",
            change,
            Self {
                devices,
                ..self.clone()
            },
        );
        changes
    }

    /// What speculation is tried: half as many drafts, and as many as are asked for.
    fn speculations(&self) -> Vec<Speculation> {
        let Some(asked) = &self.may_speculate else {
            return Vec::new();
        };
        let mut drafts = vec![asked.drafts / 2, asked.drafts];
        drafts.retain(|&it| it > 0);
        let with = |drafts| Speculation {
            drafts,
            ..asked.clone()
        };
        drafts.into_iter().map(with).collect()
    }

    fn with(&self, model: ModelShape) -> Self {
        Self {
            model,
            ..self.clone()
        }
    }
}

/// Why a change cannot be made; a fault of the simulation is none.
pub(super) fn told(error: SimError) -> Result<String, SimError> {
    match error {
        SimError::Setting(_)
        | SimError::NoPlace { .. }
        | SimError::DoesNotFit { .. }
        | SimError::SloUnmet { .. }
        | SimError::Scheduler(_) => Ok(error.to_string()),
        fault @ SimError::Stalled { .. } => Err(fault),
    }
}
