//! What fits into the memory of a box.

use super::Question;
use super::figure::{Figure, bytes, number};
use crate::{ProductFormat, SimError, WeightDtype};

/// The most devices of a box that are suggested.
const MOST_DEVICES: u32 = 16;

impl Question {
    /// Weights, the KV pool, the longest context, and how many requests there is room for.
    pub(super) fn figures_of_memory(&self) -> Result<Vec<Figure>, SimError> {
        let shape = &self.model;
        let usable = self.usable_bytes();
        let weights = shape.weight_bytes();
        let engine = self.engine()?;
        let page = shape.page_bytes(self.block_size);
        let pool = f64::from(engine.kv_blocks) * page;
        let (prompt, output) = self.traffic.mean_lengths();
        let of_one = shape.kv_bytes_of(prompt + output);
        let copies = f64::from(self.devices) / f64::from(self.devices.min(shape.kv_heads));
        let scheduler = engine.scheduler();
        let longest = scheduler.capacity_tokens().min(shape.context as usize);
        let pool_formula = format!(
            "{} usable − {} weights{}, in {} pages of {} tokens in {} layers",
            bytes(usable),
            bytes(weights),
            match copies > 1.0 {
                true => format!(", {copies} copies of each head"),
                false => String::new(),
            },
            number(f64::from(engine.kv_blocks)),
            self.block_size,
            shape.kv_groups().places,
        );
        Ok(vec![
            Figure::new("weights", weights, "bytes", self.weights_formula()),
            Figure::new(
                "usable memory",
                usable,
                "bytes",
                format!(
                    "{} × {} × {} for weights and KV",
                    self.devices,
                    bytes(self.hardware.memory_bytes),
                    self.hardware.memory_share
                ),
            ),
            Figure::new(
                "KV of a token",
                shape.kv_bytes_per_token(),
                "bytes",
                format!(
                    "2 × {} layers × {} heads × {} × {} bytes{}",
                    shape.layers,
                    shape.kv_heads,
                    shape.head_dim,
                    shape.bytes_per_kv_number,
                    self.window_words(),
                ),
            ),
            Figure::new("KV pool", pool, "bytes", pool_formula),
            Figure::new(
                "longest context",
                longest as f64,
                "tokens",
                format!(
                    "the smaller of the model's {} and the pool's {}",
                    number(f64::from(shape.context)),
                    match scheduler.capacity_tokens() {
                        usize::MAX => "any".to_owned(),
                        tokens => number(tokens as f64),
                    }
                ),
            ),
            Figure::new(
                "requests that fit",
                (pool / of_one).floor(),
                "requests",
                format!(
                    "{} ÷ {} for {} tokens of prompt and {} of answer",
                    bytes(pool),
                    bytes(of_one),
                    number(prompt),
                    number(output)
                ),
            ),
        ])
    }

    fn usable_bytes(&self) -> f64 {
        self.hardware.usable_bytes() * f64::from(self.devices)
    }

    fn window_words(&self) -> String {
        self.model.window.map_or(String::new(), |it| {
            format!("; {} layers keep the last {} alone", it.layers, it.tokens)
        })
    }

    fn weights_formula(&self) -> String {
        let shape = &self.model;
        let matrices = if shape.tied { 1 } else { 2 };
        let experts = match shape.experts {
            Some(it) => format!(
                " + {} in {} experts × {} bytes",
                number(shape.expert_weights()),
                f64::from(it.count) * shape.expert_layers(),
                shape.bytes_per_expert_weight()
            ),
            None => String::new(),
        };
        format!(
            "{} in layers × {} bytes{experts} + {matrices} × {} × {} × {} bytes",
            number(shape.shared_weights()),
            shape.bytes_per_weight,
            shape.vocabulary,
            shape.hidden,
            shape.bytes_per_output_weight(),
        )
    }

    /// Whether there is place for the weights and a request.
    pub(super) fn check_place(&self) -> Result<(), SimError> {
        let missing = self.missing_bytes();
        if missing <= 0.0 {
            return Ok(());
        }
        let fits = |changed: &Self| changed.missing_bytes() <= 0.0;
        let mut remedies = Vec::new();
        let smaller = [WeightDtype::Fp8, WeightDtype::Int8, WeightDtype::Int4];
        let current = self.model.weight_bytes();
        for dtype in smaller {
            let mut changed = self.clone();
            changed.set_weights(dtype);
            let known = self.hardware.has(dtype.products());
            if known && changed.model.weight_bytes() < current && fits(&changed) {
                remedies.push(format!("weights in {dtype}"));
            }
        }
        let mut changed = self.clone();
        while self.hardware.link_bytes_per_second.is_some() && changed.devices < MOST_DEVICES {
            changed.devices *= 2;
            if fits(&changed) {
                remedies.push(format!("{} devices a box", changed.devices));
                break;
            }
        }
        let larger = crate::Hardware::known_names().filter_map(crate::Hardware::known);
        let larger = larger.filter(|it| it.memory_bytes > self.hardware.memory_bytes);
        for hardware in larger {
            let changed = Self {
                hardware,
                products: ProductFormat::Bf16,
                ..self.clone()
            };
            if fits(&changed) {
                remedies.push(changed.hardware.name);
            }
        }
        Err(SimError::NoPlace {
            model: self.model.name.clone(),
            devices: self.devices,
            hardware: self.hardware.name.clone(),
            weight_bytes: current as u64,
            missing_bytes: missing.ceil() as u64,
            remedies: match remedies.is_empty() {
                true => "choose a smaller model".to_owned(),
                false => format!("it fits with {}", remedies.join(", or ")),
            },
        })
    }

    /// Bytes that the weights and the KV of one request are larger than what is there.
    fn missing_bytes(&self) -> f64 {
        let shape = &self.model;
        let (prompt, output) = self.traffic.mean_lengths();
        let groups = shape.kv_groups().specs.len() as f64;
        let least = shape.page_bytes(self.block_size) * groups;
        let kv = shape.kv_bytes_of(prompt + output).max(least) * 1.05;
        let copies = f64::from(self.devices) / f64::from(self.devices.min(shape.kv_heads));
        let (draft_weights, draft_kv) = self.draft().map_or((0.0, 0.0), |draft| {
            let kv = draft.kv_bytes_per_token() * (prompt + output);
            (draft.weight_bytes(), kv)
        });
        let weights = shape.weight_bytes() + draft_weights;
        weights + (kv + draft_kv) * copies - self.usable_bytes()
    }
}
