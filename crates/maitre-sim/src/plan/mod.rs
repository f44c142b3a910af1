//! What hardware serves some people: what fits, how many a box serves within an SLO, how many boxes that makes, what it costs, what
//! bounds it, and what would move it.
//!
//! A [`Question`] names a model, hardware, an SLO and traffic. Its [`plan`](Question::plan) has every number with the formula that it
//! follows from. How many a box serves follows from no formula: it is searched by simulating the box, with the scheduler that
//! serves, under more or less load. What a technique would gain is found by the same search with that one thing changed. The
//! seed chooses all that is random, so a question has one answer.
//!
//! # Examples
//!
//! ```
//! use maitre_sim::plan::{Question, Traffic};
//! use maitre_sim::workload::{Length, Lengths};
//! use maitre_sim::{Hardware, ModelShape};
//!
//! let traffic = Traffic::Users {
//!     users: 200,
//!     think: std::time::Duration::from_secs(20),
//!     lengths: Lengths::Independent { prompt: Length::Fixed(64), output: Length::Fixed(8) },
//! };
//! let slo = "ttft=300ms,tpot=40ms".parse()?;
//! let model = ModelShape::known("qwen3-0.6b").unwrap();
//! let hardware = Hardware { memory_bytes: 1.5e9, ..Hardware::known("l4").unwrap() };
//! let mut question = Question::new(model, hardware, slo, traffic);
//! question.max_seqs = 4;
//! question.max_batched_tokens = 64;
//! question.judged = 20;
//! question.techniques = false;
//!
//! let plan = question.plan()?;
//! assert!(plan.load_per_box > 1.0);
//! assert_eq!(plan.boxes, (200.0 / plan.load_per_box).ceil() as u64);
//! # Ok::<(), maitre_sim::SimError>(())
//! ```

mod apart;
mod figure;
mod fits;
mod limit;
mod search;
mod serves;
mod table;
mod techniques;
mod traffic;
mod trial;

pub use figure::Figure;
pub use limit::{Limit, Scarce};
use serde::Serialize;
pub use techniques::{Gain, Technique};
pub use traffic::Traffic;

use crate::{
    CostModel, EngineSettings, Hardware, ModelShape, ProductFormat, SimError, Slo, Speculation,
    Split, WeightDtype,
};

/// The share of answers that has to keep to the SLO, unless another one is asked for.
pub const SLO_SHARE: f64 = 0.95;

/// Answers by which a load is judged, at least, unless more or fewer are asked for: so many that a twentieth of them are ten.
pub const JUDGED: u64 = 200;

/// Bytes a second over the link between boxes for prefill and for decode, unless another rate is given: 400 Gbit/s.
pub const LINK_BYTES_PER_SECOND: f64 = 50e9;

/// What is asked.
#[derive(Debug, Clone, PartialEq)]
pub struct Question {
    /// The model, with its weights, keys and values in the formats in which they are kept.
    pub model: ModelShape,
    /// What products with the weights are computed in.
    pub products: ProductFormat,
    /// Each device of a box.
    pub hardware: Hardware,
    /// Devices of a box, which compute each step together (tensor parallelism).
    pub devices: u32,
    /// What answers have to keep to.
    pub slo: Slo,
    /// The share of them that has to.
    pub slo_share: f64,
    /// What is to be served.
    pub traffic: Traffic,
    /// Lines of the trace that were left out.
    pub skipped_lines: usize,
    /// Of them, those that were out of the order of time.
    pub lines_out_of_order: usize,
    /// Leading tokens that all prompts have in common.
    pub shared_prefix: u32,
    /// Most sequences in a step.
    pub max_seqs: usize,
    /// Most tokens in a step.
    pub max_batched_tokens: usize,
    /// Tokens of a KV block.
    pub block_size: u32,
    /// How a box speculates, if it does.
    pub speculation: Option<Speculation>,
    /// Which boxes do prefill and which do decode, if that is apart: load is then that of all of them.
    pub split: Option<Split>,
    /// What speculation is tried among the techniques, if any is.
    pub may_speculate: Option<Speculation>,
    /// Bytes a second over the link between boxes, where the techniques set prefill apart.
    pub link_bytes_per_second: f64,
    /// What a box costs in an hour, in whatever currency.
    pub price_per_hour: Option<f64>,
    /// Whether to search what techniques would gain, which takes as long as all else for each.
    pub techniques: bool,
    /// Answers by which a load is judged, at least: more of them make the share that keeps to the SLO more certain.
    pub judged: u64,
    /// Chooses what is random of the traffic.
    pub seed: u64,
}

/// What serves it. Displayed, it is text.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Plan {
    /// Names this form: `maitre.plan/1`. A change of meaning changes the number.
    pub schema: &'static str,
    /// The model.
    pub model: String,
    /// The hardware of each device.
    pub hardware: String,
    /// Devices of a box.
    pub devices: u32,
    /// What answers keep to.
    pub slo: String,
    /// The share of them that does.
    pub slo_share: f64,
    /// The seed of the traffic.
    pub seed: u64,
    /// Lines of the trace that were left out.
    pub skipped_lines: usize,
    /// Of them, those that were out of the order of time.
    pub lines_out_of_order: usize,
    /// What load is counted in: `users` or `requests/s`.
    pub unit: &'static str,
    /// All load.
    pub load: f64,
    /// Load that a box serves within the SLO.
    pub load_per_box: f64,
    /// How far a search goes: the load that fails is at most so much above the one that keeps to the SLO, as a share of it. Techniques that
    /// gain or lose less are not told from those that change nothing.
    pub resolution: f64,
    /// Boxes.
    pub boxes: u64,
    /// All numbers, with the formulas that they follow from.
    pub figures: Vec<Figure>,
    /// What bounds a box.
    pub limit: Limit,
    /// What would move that.
    pub techniques: Vec<Technique>,
}

impl Question {
    /// A question with the defaults of `maitre serve`: one device a box, 256 sequences and 2,048 tokens a step; 95 % of all answers have
    /// to keep to the SLO.
    #[must_use]
    pub fn new(model: ModelShape, hardware: Hardware, slo: Slo, traffic: Traffic) -> Self {
        Self {
            model,
            products: ProductFormat::Bf16,
            hardware,
            devices: 1,
            slo,
            slo_share: SLO_SHARE,
            traffic,
            skipped_lines: 0,
            lines_out_of_order: 0,
            shared_prefix: 0,
            max_seqs: 256,
            max_batched_tokens: 2048,
            block_size: 16,
            speculation: None,
            split: None,
            may_speculate: None,
            link_bytes_per_second: LINK_BYTES_PER_SECOND,
            price_per_hour: None,
            techniques: true,
            judged: JUDGED,
            seed: 0,
        }
    }

    /// Keeps the weights in this format, and computes products in the one that goes with it.
    pub fn set_weights(&mut self, dtype: WeightDtype) {
        self.model = dtype.applied_to(&self.model);
        self.products = dtype.products();
    }

    /// Finds the answer.
    ///
    /// # Errors
    ///
    /// [`SimError::NoPlace`] if the model does not fit, with what would make it fit; [`SimError::SloUnmet`] if not even the least load
    /// keeps to the SLO, with what it keeps to; [`SimError::Setting`] for what is out of its range.
    pub fn plan(&self) -> Result<Plan, SimError> {
        self.validate()?;
        self.check_place()?;
        let capacity = self.capacity(self.start()?)?;
        let mut figures = self.figures_of_memory()?;
        figures.extend(self.figures_of_steps(&capacity)?);
        let (served, boxes) = self.figures_of_boxes(&capacity);
        figures.extend(served);
        Ok(Plan {
            schema: "maitre.plan/1",
            model: self.model.name.clone(),
            hardware: self.hardware.name.clone(),
            devices: self.devices,
            slo: self.slo.to_string(),
            slo_share: self.slo_share,
            seed: self.seed,
            skipped_lines: self.skipped_lines,
            lines_out_of_order: self.lines_out_of_order,
            unit: self.traffic.unit(),
            load: self.traffic.in_all(),
            load_per_box: capacity.keeps.load,
            resolution: search::RESOLUTION,
            boxes,
            figures,
            limit: self.limit(&capacity),
            techniques: match self.techniques {
                true => self.gains(capacity.keeps.load)?,
                false => Vec::new(),
            },
        })
    }

    fn validate(&self) -> Result<(), SimError> {
        self.model.validate()?;
        self.cost()?.validate()?;
        self.traffic.validate()?;
        if self.slo.is_empty() {
            let expected = "bounds of ttft, tpot and e2e such as ttft=500ms,tpot=50ms";
            return Err(SimError::setting("the SLO", "empty", expected));
        }
        if self.slo.ttft.is_none() && self.slo.e2e.is_none() {
            let expected =
                "a bound of ttft or e2e too, since without one requests may wait for ever";
            return Err(SimError::setting("the SLO", self.slo, expected));
        }
        let speculations = [&self.speculation, &self.may_speculate];
        for speculation in speculations.into_iter().flatten() {
            speculation.validate()?;
            let drafter = &speculation.drafter;
            drafter.check_vocabulary(&self.model.name, self.model.vocabulary)?;
        }
        crate::error::check_positive("the rate of the link", self.link_bytes_per_second)?;
        if let Some(price) = self.price_per_hour {
            crate::error::check_positive("the price of an hour", price)?;
        }
        let (prompt, output) = self.traffic.mean_lengths();
        if prompt + output > f64::from(self.model.context) {
            return Err(SimError::setting(
                "the length of prompt and answer",
                figure::number(prompt + output),
                format!("at most the {} tokens of the model", self.model.context),
            ));
        }
        match self.slo_share > 0.0 && self.slo_share < 1.0 {
            true => Ok(()),
            false => Err(SimError::setting(
                "the share of answers that keep to the SLO",
                self.slo_share,
                "a number above 0 and below 1",
            )),
        }
    }

    fn cost(&self) -> Result<CostModel, SimError> {
        self.hardware.cost_across(self.devices, self.products)
    }

    /// The model that drafts, if one does.
    fn draft(&self) -> Option<&ModelShape> {
        self.speculation.as_ref().and_then(|it| it.drafter.model())
    }

    /// Tokens of a sequence in a step, about.
    fn tokens_per_step(&self) -> f64 {
        let speculation = self.speculation.as_ref();
        speculation.map_or(1.0, Speculation::expected_tokens)
    }

    /// Boxes that a trial simulates.
    fn boxes_of_trial(&self) -> f64 {
        self.split
            .map_or(1.0, |split| (split.prefill + split.decode) as f64)
    }

    fn engine(&self) -> Result<EngineSettings, SimError> {
        let kv_blocks = EngineSettings::kv_blocks_with(
            &self.model,
            self.draft(),
            &self.hardware,
            self.devices,
            self.block_size,
        )?;
        Ok(EngineSettings {
            max_seqs: self.max_seqs,
            max_batched_tokens: self.max_batched_tokens,
            block_size: self.block_size,
            kv_groups: self.model.kv_groups().specs,
            ..EngineSettings::new(kv_blocks, self.model.context as usize)
        })
    }
}

impl Plan {
    /// The figure of this name.
    #[must_use]
    pub fn figure(&self, name: &str) -> Option<&Figure> {
        self.figures.iter().find(|figure| figure.name == name)
    }

    /// The plan as JSON.
    #[must_use]
    pub fn to_json(&self) -> String {
        // Maps have string keys and numbers are finite, so nothing can fail to serialise.
        serde_json::to_string_pretty(self).unwrap_or_default()
    }
}
