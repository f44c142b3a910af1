//! What accelerators can do by their published figures, and what of it programs reach.
//!
//! The figures are those without sparsity: where a datasheet gives only the figure with sparsity, half of it stands here.
//! Sizes and rates are decimal, as they are published.

use serde::{Deserialize, Serialize};

use super::CostModel;
use crate::SimError;
use crate::error::{check_positive, check_seconds};

/// Share of the published read rate that a program reaches. Copies in this project's GPU check: 3.0 of 3.35 TB/s on an
/// H100, 4.3 of 4.8 TB/s on an H200.
const READ_SHARE: f64 = 0.9;

/// Share of the published operations that large products reach. Products in bf16 in this project's GPU check: 798 of 989
/// TFLOP/s on an H100, 788 on an H200.
const PRODUCT_SHARE: f64 = 0.8;

/// Share of the published operations that attention reaches. FlashAttention-2 reports 50 % to 73 % on an A100 (Dao 2023),
/// FlashAttention-3 up to 75 % on an H100 (Shah et al. 2024); chunks of serving are shorter than theirs, so the lower end.
const ATTENTION_SHARE: f64 = 0.5;

/// Share of the memory that weights and KV cache may take; the rest is for activations and the driver.
const MEMORY_SHARE: f64 = 0.9;

/// What numbers the products with weights are computed in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ProductFormat {
    /// bf16; weights of fewer bits are widened first.
    #[default]
    Bf16,
    /// fp8, on hardware that has it.
    Fp8,
}

/// A machine that runs one replica. All shares and times have defaults, so that a file needs only the published figures.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Hardware {
    /// What it is called.
    pub name: String,
    /// Bytes of its memory.
    pub memory_bytes: f64,
    /// Bytes that are read from memory in a second, at most.
    pub read_bytes_per_second: f64,
    /// Operations per second in bf16, at most; a multiply-add is two.
    pub bf16_ops_per_second: f64,
    /// Operations per second in fp8, at most; `None`: it has no such units.
    #[serde(default)]
    pub fp8_ops_per_second: Option<f64>,
    /// Where the figures are from.
    #[serde(default)]
    pub source: String,
    /// Share of the memory for weights and KV cache.
    #[serde(default = "memory_share")]
    pub memory_share: f64,
    /// Share of the read rate that is reached.
    #[serde(default = "read_share")]
    pub read_share: f64,
    /// Share of the operations that products with weights reach.
    #[serde(default = "product_share")]
    pub product_share: f64,
    /// Share of the operations that attention reaches.
    #[serde(default = "attention_share")]
    pub attention_share: f64,
    /// Seconds that a step takes whatever is in it.
    #[serde(default)]
    pub step_seconds: f64,
    /// Seconds for each sequence of a step.
    #[serde(default)]
    pub sequence_seconds: f64,
    /// Seconds for each prefill chunk of a step.
    #[serde(default)]
    pub chunk_seconds: f64,
}

fn memory_share() -> f64 {
    MEMORY_SHARE
}

fn read_share() -> f64 {
    READ_SHARE
}

fn product_share() -> f64 {
    PRODUCT_SHARE
}

fn attention_share() -> f64 {
    ATTENTION_SHARE
}

/// A row of the table: name, GB of memory, GB/s, TFLOP/s in bf16 and in fp8, source.
type Row = (&'static str, f64, f64, f64, Option<f64>, &'static str);

const ROWS: [Row; 6] = [
    (
        "a100",
        80.0,
        2039.0,
        312.0,
        None,
        "NVIDIA A100 Tensor Core GPU datasheet, 80 GB SXM",
    ),
    (
        "h100",
        80.0,
        3350.0,
        989.0,
        Some(1979.0),
        "NVIDIA H100 Tensor Core GPU datasheet, SXM; half of the figures with sparsity",
    ),
    (
        "h200",
        141.0,
        4800.0,
        989.0,
        Some(1979.0),
        "NVIDIA H200 Tensor Core GPU datasheet, SXM; half of the figures with sparsity",
    ),
    (
        "b200",
        180.0,
        8000.0,
        2250.0,
        Some(4500.0),
        "NVIDIA DGX B200 datasheet, an eighth of the system; half of the figures with sparsity",
    ),
    (
        "l4",
        24.0,
        300.0,
        121.0,
        Some(242.5),
        "NVIDIA L4 Tensor Core GPU datasheet; half of the figures with sparsity",
    ),
    (
        "gb10",
        128.0,
        273.0,
        125.0,
        Some(250.0),
        "NVIDIA DGX Spark datasheet: 1 PFLOP in fp4 with sparsity, so a quarter of it in fp8 and an eighth in bf16 without",
    ),
];

impl Hardware {
    /// The hardware that is known by this name.
    #[must_use]
    pub fn known(name: &str) -> Option<Self> {
        let row = ROWS.iter().find(|row| row.0.eq_ignore_ascii_case(name))?;
        let (name, memory, read, bf16, fp8, source) = *row;
        Some(Self {
            name: name.to_owned(),
            memory_bytes: memory * 1e9,
            read_bytes_per_second: read * 1e9,
            bf16_ops_per_second: bf16 * 1e12,
            fp8_ops_per_second: fp8.map(|ops| ops * 1e12),
            source: source.to_owned(),
            memory_share: MEMORY_SHARE,
            read_share: READ_SHARE,
            product_share: PRODUCT_SHARE,
            attention_share: ATTENTION_SHARE,
            step_seconds: 0.0,
            sequence_seconds: 0.0,
            chunk_seconds: 0.0,
        })
    }

    /// The names that are known.
    pub fn known_names() -> impl Iterator<Item = &'static str> {
        ROWS.iter().map(|row| row.0)
    }

    /// What a step costs on it.
    ///
    /// # Errors
    ///
    /// [`SimError::Setting`] for a figure out of its range, or for fp8 where there is none.
    pub fn cost(&self, format: ProductFormat) -> Result<CostModel, SimError> {
        self.validate()?;
        let ops = match format {
            ProductFormat::Bf16 => self.bf16_ops_per_second,
            ProductFormat::Fp8 => self.fp8_ops_per_second.ok_or_else(|| {
                let expected = "bf16, or hardware with fp8_ops_per_second";
                SimError::setting(
                    "the format of products",
                    format!("fp8 on {}", self.name),
                    expected,
                )
            })?,
        };
        Ok(CostModel {
            step_seconds: self.step_seconds,
            sequence_seconds: self.sequence_seconds,
            chunk_seconds: self.chunk_seconds,
            read_bytes_per_second: self.read_bytes_per_second * self.read_share,
            product_ops_per_second: ops * self.product_share,
            // Attention is computed in bf16 whatever the weights are.
            attention_ops_per_second: self.bf16_ops_per_second * self.attention_share,
        })
    }

    /// Bytes for weights and KV cache.
    #[must_use]
    pub fn usable_bytes(&self) -> f64 {
        self.memory_bytes * self.memory_share
    }

    fn validate(&self) -> Result<(), SimError> {
        check_positive("memory_bytes", self.memory_bytes)?;
        check_positive("read_bytes_per_second", self.read_bytes_per_second)?;
        check_positive("bf16_ops_per_second", self.bf16_ops_per_second)?;
        if let Some(ops) = self.fp8_ops_per_second {
            check_positive("fp8_ops_per_second", ops)?;
        }
        for (name, share) in [
            ("memory_share", self.memory_share),
            ("read_share", self.read_share),
            ("product_share", self.product_share),
            ("attention_share", self.attention_share),
        ] {
            if !(share > 0.0 && share <= 1.0) {
                return Err(SimError::setting(
                    name,
                    share,
                    "a number above 0 and up to 1",
                ));
            }
        }
        check_seconds("step_seconds", self.step_seconds)?;
        check_seconds("sequence_seconds", self.sequence_seconds)?;
        check_seconds("chunk_seconds", self.chunk_seconds)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_has_a_cost_and_a_source() {
        for name in Hardware::known_names() {
            let hardware = Hardware::known(name).unwrap();
            let cost = hardware.cost(ProductFormat::Bf16).unwrap();
            cost.validate().unwrap();
            assert!(cost.read_bytes_per_second < hardware.read_bytes_per_second);
            assert!(!hardware.source.is_empty());
        }
        assert!(Hardware::known("H100").is_some() && Hardware::known("tpu").is_none());
    }

    #[test]
    fn what_no_machine_has_is_refused() {
        let a100 = Hardware::known("a100").unwrap();
        let said = a100.cost(ProductFormat::Fp8).unwrap_err().to_string();
        assert!(said.contains("fp8 on a100"), "{said}");
        let greedy = Hardware {
            read_share: 1.5,
            ..a100.clone()
        };
        assert!(greedy.cost(ProductFormat::Bf16).is_err());
        let slow = Hardware {
            bf16_ops_per_second: 0.0,
            ..a100
        };
        assert!(slow.cost(ProductFormat::Bf16).is_err());
    }

    #[test]
    fn a_file_needs_only_the_published_figures() {
        let text = r#"{"name": "mine", "memory_bytes": 24e9, "read_bytes_per_second": 50e9, "bf16_ops_per_second": 1.1e12}"#;
        let mine: Hardware = serde_json::from_str(text).unwrap();
        assert_eq!((mine.read_share, mine.step_seconds), (READ_SHARE, 0.0));
        assert!(serde_json::from_str::<Hardware>(r#"{"name": "mine"}"#).is_err());
    }
}
