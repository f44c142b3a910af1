//! What accelerators can do by their published figures, and what of it programs reach.
//!
//! The figures are those without sparsity: where a datasheet gives only the figure with sparsity, half of it stands here.
//! Sizes and rates are decimal, as they are published.

use serde::{Deserialize, Serialize};

use super::{CostModel, ProductFormat};
use crate::SimError;
use crate::error::{check_positive, check_seconds};

/// Share of the published read rate that a program reaches. Copies in this project's GPU check: 3.0 of 3.35 TB/s on an
/// H100, 4.3 of 4.8 TB/s on an H200.
const READ_SHARE: f64 = 0.9;

/// Share of the published operations that large products reach. Products in bf16 in this project's GPU check: 798 of 989
/// TFLOP/s on an H100, 788 on an H200.
const PRODUCT_SHARE: f64 = 0.8;

/// The same of large products in fp8 and int8, which the power of a GPU limits sooner. The product that PyTorch calls was measured at
/// 1,170 to 1,180 of 1,979 TFLOP/s on sixteen GPUs of Hopper's generation, a tuned one of cuBLASLt at 1,609 (cross-check of
/// 2026-05-24, gitea.d-robotics.cc/han.zhao/test_gpu_scripts); DeepGEMM's README says up to 1,550.
const NARROW_PRODUCT_SHARE: f64 = 0.6;

/// Share of the published operations that attention reaches. FlashAttention-2 reports 50 % to 73 % on an A100 (Dao 2023),
/// FlashAttention-3 up to 75 % on an H100 (Shah et al. 2024); chunks of serving are shorter than theirs, so the lower end.
const ATTENTION_SHARE: f64 = 0.5;

/// What of the shorter of reading and computing is not hidden behind the longer one in products with weights, and the fixed time of
/// a kernel beyond both: launch, filling and draining. Both follow from 60 products of this project's GPU check on an H100, with
/// weights of two bytes and of one, at 1 to 2,048 rows, as the pair of steps of 0.05 and 0.5 µs with the least squares; it foresees
/// them with an error of 5 %. The kernels between products take 1.5 to 2.6 µs there at one row, attention of a short context 5 µs.
const UNHIDDEN_SHARE: f64 = 0.35;
const KERNEL_SECONDS: f64 = 2.5e-6;

/// What the host does between two steps for each sequence: this project's engine spent 2.1 to 2.9 µs at 64 and 256 sequences on an
/// H100's host. It hides that by planning ahead; other engines do it in slower languages. So it counts.
const SEQUENCE_SECONDS: f64 = 2.5e-6;

/// From logits to the token on the host: this project's GPU check measured 27 to 52 µs for one row, of which four kernels are counted
/// by themselves.
const STEP_SECONDS: f64 = 30e-6;

/// Share of a link's rate that all-reduces reach: 360 of 450 GB/s is what libraries of collectives report on H100s.
const LINK_SHARE: f64 = 0.8;

/// The time of an all-reduce beside its bytes: a barrier before and after, and the latency of a link.
const LINK_SECONDS: f64 = 8e-6;

/// Share of the memory that weights and KV cache may take; the rest is for activations and the driver.
const MEMORY_SHARE: f64 = 0.9;

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
    /// Bytes of keys and values that attention reads in a second; `None`: as many as of weights, with the same share.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kv_bytes_per_second: Option<f64>,
    /// Operations per second in bf16, at most; a multiply-add is two.
    pub bf16_ops_per_second: f64,
    /// Operations per second of products with the output matrix; `None`: as many as of others in bf16, with the same share.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output_ops_per_second: Option<f64>,
    /// Operations per second in fp8, at most; `None`: it has no such units.
    #[serde(default)]
    pub fp8_ops_per_second: Option<f64>,
    /// Operations per second in int8, at most; `None`: it has no such units.
    #[serde(default)]
    pub int8_ops_per_second: Option<f64>,
    /// Bytes that a device sends to the others of its box in a second, at most; `None`: it is alone.
    #[serde(default)]
    pub link_bytes_per_second: Option<f64>,
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
    /// The same of products in fp8 and int8.
    #[serde(default = "narrow_product_share")]
    pub narrow_product_share: f64,
    /// Share of the operations that attention reaches.
    #[serde(default = "attention_share")]
    pub attention_share: f64,
    /// Share of the link's rate that all-reduces reach.
    #[serde(default = "link_share")]
    pub link_share: f64,
    /// Seconds of an all-reduce beside its bytes.
    #[serde(default = "link_seconds")]
    pub link_seconds: f64,
    /// What of the shorter of reading and computing is not hidden behind the longer one.
    #[serde(default = "unhidden_share")]
    pub unhidden_share: f64,
    /// Seconds of each kernel beyond what it reads and computes.
    #[serde(default = "kernel_seconds")]
    pub kernel_seconds: f64,
    /// Seconds that a step takes whatever is in it.
    #[serde(default = "step_seconds")]
    pub step_seconds: f64,
    /// Seconds for each sequence of a step.
    #[serde(default = "sequence_seconds")]
    pub sequence_seconds: f64,
    /// Seconds for each prefill chunk of a step.
    #[serde(default)]
    pub chunk_seconds: f64,
    /// By what the time of the layers' products is multiplied at so many tokens in a step, as [`CostModel::product_factors`].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub product_factors: Vec<(f64, f64)>,
}

macro_rules! default {
    ($($name:ident: $value:ident,)*) => {
        $(fn $name() -> f64 {
            $value
        })*
    };
}

default! {
    memory_share: MEMORY_SHARE,
    read_share: READ_SHARE,
    product_share: PRODUCT_SHARE,
    narrow_product_share: NARROW_PRODUCT_SHARE,
    attention_share: ATTENTION_SHARE,
    link_share: LINK_SHARE,
    link_seconds: LINK_SECONDS,
    unhidden_share: UNHIDDEN_SHARE,
    kernel_seconds: KERNEL_SECONDS,
    step_seconds: STEP_SECONDS,
    sequence_seconds: SEQUENCE_SECONDS,
}

/// The published figures of a device, in the units in which they are published.
struct Sheet {
    name: &'static str,
    gigabytes: f64,
    gigabytes_per_second: f64,
    /// TFLOP/s and TOP/s without sparsity.
    bf16: f64,
    fp8: Option<f64>,
    int8: Option<f64>,
    /// GB/s in one direction, to the other devices of a box.
    link: Option<f64>,
    source: &'static str,
}

const SHEETS: [Sheet; 7] = [
    Sheet {
        name: "a100",
        gigabytes: 80.0,
        gigabytes_per_second: 2039.0,
        bf16: 312.0,
        fp8: None,
        int8: Some(624.0),
        link: Some(300.0),
        source: "NVIDIA A100 Tensor Core GPU datasheet, 80 GB SXM",
    },
    Sheet {
        name: "h100",
        gigabytes: 80.0,
        gigabytes_per_second: 3350.0,
        bf16: 989.0,
        fp8: Some(1979.0),
        int8: Some(1979.0),
        link: Some(450.0),
        source: "NVIDIA H100 Tensor Core GPU datasheet, SXM; half of the figures with sparsity",
    },
    Sheet {
        name: "h200",
        gigabytes: 141.0,
        gigabytes_per_second: 4800.0,
        bf16: 989.0,
        fp8: Some(1979.0),
        int8: Some(1979.0),
        link: Some(450.0),
        source: "NVIDIA H200 Tensor Core GPU datasheet, SXM; half of the figures with sparsity",
    },
    Sheet {
        name: "b200",
        gigabytes: 180.0,
        gigabytes_per_second: 8000.0,
        bf16: 2250.0,
        fp8: Some(4500.0),
        int8: Some(4500.0),
        link: Some(900.0),
        source: "NVIDIA DGX B200 datasheet, an eighth of the system; half of the figures with sparsity",
    },
    Sheet {
        name: "l4",
        gigabytes: 24.0,
        gigabytes_per_second: 300.0,
        bf16: 121.0,
        fp8: Some(242.5),
        int8: Some(242.5),
        link: Some(32.0),
        source: "NVIDIA L4 Tensor Core GPU datasheet; half of the figures with sparsity; linked by PCIe 4.0 x16",
    },
    Sheet {
        name: "gb10",
        gigabytes: 128.0,
        gigabytes_per_second: 273.0,
        bf16: 125.0,
        fp8: Some(250.0),
        int8: None,
        link: Some(25.0),
        source: "NVIDIA DGX Spark datasheet: 1 PFLOP in fp4 with sparsity, so a quarter of it in fp8 and an eighth in bf16 \
                 without; linked by 200 Gbit/s",
    },
    Sheet {
        name: "cpu",
        gigabytes: 24.0,
        gigabytes_per_second: 67.0,
        bf16: 0.473,
        fp8: None,
        int8: Some(0.946),
        link: None,
        source: "two cores of an AMD EPYC of Zen 4, as loops that do nothing else measured them",
    },
];

impl Hardware {
    /// The hardware that is known by this name.
    #[must_use]
    pub fn known(name: &str) -> Option<Self> {
        let sheet = SHEETS
            .iter()
            .find(|it| it.name.eq_ignore_ascii_case(name))?;
        let tera = |ops: f64| ops * 1e12;
        // A processor launches no kernels, and its host is itself.
        let [kernel_seconds, step_seconds, sequence_seconds] = match sheet.name {
            "cpu" => [0.0; 3],
            _ => [KERNEL_SECONDS, STEP_SECONDS, SEQUENCE_SECONDS],
        };
        Some(Self {
            name: sheet.name.to_owned(),
            memory_bytes: sheet.gigabytes * 1e9,
            read_bytes_per_second: sheet.gigabytes_per_second * 1e9,
            kv_bytes_per_second: None,
            bf16_ops_per_second: tera(sheet.bf16),
            output_ops_per_second: None,
            fp8_ops_per_second: sheet.fp8.map(tera),
            int8_ops_per_second: sheet.int8.map(tera),
            link_bytes_per_second: sheet.link.map(|link| link * 1e9),
            source: sheet.source.to_owned(),
            memory_share: MEMORY_SHARE,
            read_share: READ_SHARE,
            product_share: PRODUCT_SHARE,
            narrow_product_share: NARROW_PRODUCT_SHARE,
            attention_share: ATTENTION_SHARE,
            link_share: LINK_SHARE,
            link_seconds: LINK_SECONDS,
            unhidden_share: UNHIDDEN_SHARE,
            kernel_seconds,
            step_seconds,
            sequence_seconds,
            chunk_seconds: 0.0,
            product_factors: Vec::new(),
        })
    }

    /// The names that are known.
    pub fn known_names() -> impl Iterator<Item = &'static str> {
        SHEETS.iter().map(|it| it.name)
    }

    /// What a step costs on one device.
    ///
    /// # Errors
    ///
    /// [`SimError::Setting`] for a figure out of its range, or for a format of products where there is none.
    pub fn cost(&self, format: ProductFormat) -> Result<CostModel, SimError> {
        self.cost_across(1, format)
    }

    /// What a step costs on so many devices, each of which holds a part of every matrix (tensor parallelism).
    ///
    /// # Errors
    ///
    /// As [`Hardware::cost`], and for several devices without a link.
    pub fn cost_across(&self, devices: u32, format: ProductFormat) -> Result<CostModel, SimError> {
        self.validate()?;
        let link = match (devices, self.link_bytes_per_second) {
            (0, _) => return Err(SimError::setting("the number of devices", 0, "at least 1")),
            (1, link) => link.unwrap_or(f64::MAX),
            (_, Some(link)) => link,
            (_, None) => {
                let expected = "1, or hardware with link_bytes_per_second";
                return Err(SimError::setting(
                    "the number of devices",
                    devices,
                    expected,
                ));
            }
        };
        let bf16 = self.bf16_ops_per_second * self.product_share;
        let reads = self.read_bytes_per_second * self.read_share;
        Ok(CostModel {
            step_seconds: self.step_seconds,
            sequence_seconds: self.sequence_seconds,
            chunk_seconds: self.chunk_seconds,
            kernel_seconds: self.kernel_seconds,
            read_bytes_per_second: reads,
            kv_bytes_per_second: self.kv_bytes_per_second.unwrap_or(reads),
            products: format,
            product_ops_per_second: self.product_ops(format)?,
            output_ops_per_second: self.output_ops_per_second.unwrap_or(bf16),
            // Attention is computed in bf16 whatever the weights are.
            attention_ops_per_second: self.bf16_ops_per_second * self.attention_share,
            unhidden_share: self.unhidden_share,
            devices,
            link_bytes_per_second: link * self.link_share,
            link_seconds: self.link_seconds,
            product_factors: self.product_factors.clone(),
        })
    }

    fn product_ops(&self, format: ProductFormat) -> Result<f64, SimError> {
        let (ops, share) = match format {
            ProductFormat::Bf16 => (Some(self.bf16_ops_per_second), self.product_share),
            ProductFormat::Fp8 => (self.fp8_ops_per_second, self.narrow_product_share),
            ProductFormat::Int8 => (self.int8_ops_per_second, self.narrow_product_share),
        };
        let name = format.name();
        ops.map(|ops| ops * share).ok_or_else(|| {
            SimError::setting(
                "the format of products",
                format!("{name} on {}", self.name),
                format!("bf16, or hardware with {name}_ops_per_second"),
            )
        })
    }

    /// Whether it has units for products in a format.
    #[must_use]
    pub fn has(&self, format: ProductFormat) -> bool {
        self.product_ops(format).is_ok()
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
        for (name, rate) in [
            ("fp8_ops_per_second", self.fp8_ops_per_second),
            ("int8_ops_per_second", self.int8_ops_per_second),
            ("kv_bytes_per_second", self.kv_bytes_per_second),
            ("output_ops_per_second", self.output_ops_per_second),
            ("link_bytes_per_second", self.link_bytes_per_second),
        ] {
            rate.map_or(Ok(()), |rate| check_positive(name, rate))?;
        }
        for (name, share) in [
            ("memory_share", self.memory_share),
            ("read_share", self.read_share),
            ("product_share", self.product_share),
            ("narrow_product_share", self.narrow_product_share),
            ("attention_share", self.attention_share),
            ("link_share", self.link_share),
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
        assert!(a100.has(ProductFormat::Int8) && !a100.has(ProductFormat::Fp8));
        let said = a100.cost(ProductFormat::Fp8).unwrap_err().to_string();
        assert!(said.contains("fp8 on a100"), "{said}");
        let cpu = Hardware::known("cpu").unwrap();
        let said = cpu
            .cost_across(2, ProductFormat::Bf16)
            .unwrap_err()
            .to_string();
        assert!(
            said.contains("devices is 2; expected 1, or hardware with link"),
            "{said}"
        );
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
        assert_eq!(
            (mine.read_share, mine.step_seconds),
            (READ_SHARE, STEP_SECONDS)
        );
        assert_eq!(
            mine.kernel_seconds, KERNEL_SECONDS,
            "as of hardware by name"
        );
        assert!(serde_json::from_str::<Hardware>(r#"{"name": "mine"}"#).is_err());
    }
}
