//! The shortest time a workload can take on a machine, from the model's shape and two numbers:
//! bytes a second and operations a second.
//!
//! A step reads every weight once and multiplies each with each of its tokens; it takes at least the
//! longer of both times (Williams, Waterman and Patterson 2009, "Roofline"). The output layer is for
//! the rows alone that a token is chosen from. Attention and everything element-wise is left out, so
//! a share of this limit is a little too low, never too high.

use std::fmt;
use std::path::Path;

use anyhow::{Context, Result, bail};
use serde_json::Value;

use super::peers::Workload;

/// The weights as a GGUF file has them, whatever that is.
pub(super) const STORED: &str = "stored";

/// Weights of the matrices.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Shape {
    /// In the layers: each token meets each of them.
    body: u64,
    /// In the output layer.
    head: u64,
    /// Bytes of both in the model's files, if they are computed with as they are.
    stored_bytes: Option<u64>,
}

/// What the machine reaches.
#[derive(Debug, Clone, Copy)]
pub(super) struct Machine {
    /// Bytes a second read from memory.
    read_bytes_per_s: f64,
    /// Operations a second in the format of the weights.
    ops_per_s: f64,
    /// Bytes of a weight; those of the files if `None`.
    bytes_per_weight: Option<f64>,
    /// The format that products are taken in.
    peak: &'static str,
}

impl Machine {
    /// A machine of which nothing is known yet, for weights in this format.
    pub(super) fn of_weights(dtype: &str) -> Result<Self> {
        // An int4 weight shares a scale and a zero point with 63 others.
        let (bytes_per_weight, peak) = match dtype {
            "f32" => (Some(4.0), "f32"),
            "bf16" => (Some(2.0), "bf16"),
            "int8" => (Some(1.0), "int8"),
            "int4" => (Some(0.5 + 4.0 / 64.0), "int8"),
            STORED => (None, "int8"),
            _ => bail!("no limit is known for {dtype}; expected f32, bf16, int8, int4 or {STORED}"),
        };
        Ok(Self {
            read_bytes_per_s: 0.0,
            ops_per_s: 0.0,
            bytes_per_weight,
            peak,
        })
    }

    /// Takes in one more measurement, `read=BYTES f32=OPS bf16=OPS int8=OPS` a second: what a
    /// machine has once done, it can do.
    pub(super) fn learn(&mut self, line: &str) -> Result<()> {
        let number = |name: &str| -> Option<f64> {
            let words = line.split_ascii_whitespace();
            let mut pairs = words.filter_map(|word| word.split_once('='));
            pairs.find(|(found, _)| *found == name)?.1.parse().ok()
        };
        let (Some(read), Some(ops)) = (number("read"), number(self.peak)) else {
            bail!("`{line}` are no limits");
        };
        self.read_bytes_per_s = self.read_bytes_per_s.max(read);
        self.ops_per_s = self.ops_per_s.max(ops);
        Ok(())
    }
}

impl fmt::Display for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "the machine reads {:.1} GB/s and does {:.0} G {} operations/s",
            self.read_bytes_per_s / 1e9,
            self.ops_per_s / 1e9,
            self.peak
        )
    }
}

impl Shape {
    /// Reads the shape of a dense Llama or Qwen3 from the folder's `config.json`.
    pub(super) fn read(model: &Path) -> Result<Self> {
        let path = model.join("config.json");
        let text = std::fs::read_to_string(&path)
            .with_context(|| format!("reading {}", path.display()))?;
        Self::parse(&text).with_context(|| format!("in {}", path.display()))
    }

    fn parse(config: &str) -> Result<Self> {
        let config: Value = serde_json::from_str(config)?;
        let number = |name: &str| {
            config[name]
                .as_u64()
                .with_context(|| format!("`{name}` is missing or no number"))
        };
        let (hidden, heads) = (number("hidden_size")?, number("num_attention_heads")?);
        let kv_heads = number("num_key_value_heads").unwrap_or(heads);
        let head_dim = number("head_dim").unwrap_or(hidden / heads.max(1));
        let attention = hidden * (2 * heads + 2 * kv_heads) * head_dim;
        let mlp = 3 * hidden * number("intermediate_size")?;
        Ok(Self {
            body: number("num_hidden_layers")? * (attention + mlp),
            head: number("vocab_size")? * hidden,
            stored_bytes: None,
        })
    }

    /// Takes the shape of any model from what `maitre inspect --json` printed of it. Norms count as matrices, which is a
    /// thousandth.
    pub(super) fn of_inspected(report: &str) -> Result<Self> {
        let report: Value = serde_json::from_str(report)?;
        let number = |value: &Value, name: &str| {
            value[name]
                .as_u64()
                .with_context(|| format!("`{name}` is missing or no number"))
        };
        let head = number(&report, "vocab_size")? * number(&report, "hidden_size")?;
        let stored = report["stored"].as_array().context("`stored` is missing")?;
        let bytes_of = |used_for: &str| -> Result<u64> {
            let rows = stored.iter().filter(|row| row["used_for"] == used_for);
            rows.map(|row| number(row, "bytes")).sum()
        };
        let (embedding, output) = (bytes_of("embedding")?, bytes_of("output")?);
        let (matrices, head_bytes) = match output {
            0 => (head, embedding),
            _ => (2 * head, output),
        };
        Ok(Self {
            body: number(&report, "parameters")?.saturating_sub(matrices),
            head,
            stored_bytes: Some(bytes_of("attention")? + bytes_of("MLP")? + head_bytes),
        })
    }

    /// Seconds of the whole workload at the limit: its prompts at once, then a step for each further
    /// token. Prompts of unknown length count as read with the weights.
    pub(super) fn seconds(&self, workload: Workload, machine: Machine) -> f64 {
        let users = workload.users as u64;
        let step = |tokens: u64| {
            let bytes = match machine.bytes_per_weight {
                None => self.stored_bytes.unwrap_or(0) as f64,
                // Beside int4 layers the vocabulary is int8.
                Some(each) => self.body as f64 * each + self.head as f64 * each.max(1.0),
            };
            let ops = 2 * (self.body * tokens + self.head * users);
            (bytes / machine.read_bytes_per_s).max(ops as f64 / machine.ops_per_s)
        };
        step(users * workload.input as u64) + (workload.output as f64 - 1.0) * step(users)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const QWEN3: &str = r#"{"hidden_size": 1024, "num_attention_heads": 16,
        "num_key_value_heads": 8, "head_dim": 128, "intermediate_size": 3072,
        "num_hidden_layers": 28, "vocab_size": 151936}"#;

    #[test]
    fn the_shape_counts_the_weights() {
        let shape = Shape::parse(QWEN3).unwrap();
        // 1024 x 2048 for queries, half for keys and values each, 2048 x 1024 out; 3 x 1024 x 3072.
        assert_eq!(shape.body, 28 * (6 * 1024 * 1024 + 9 * 1024 * 1024));
        assert_eq!(shape.body + shape.head, 595_984_384);
        let error = Shape::parse(r#"{"hidden_size": 8}"#).unwrap_err();
        assert!(error.to_string().contains("num_attention_heads"), "{error}");
    }

    #[test]
    fn a_report_tells_the_shape_and_the_bytes_of_the_file() {
        let report = |output: &str| {
            let rows = [
                ("embedding", 70),
                ("attention", 20),
                ("MLP", 30),
                (output, 60),
            ];
            let rows = rows.map(|(used_for, bytes)| json!({"used_for": used_for, "bytes": bytes}));
            let report =
                json!({"parameters": 1000, "vocab_size": 50, "hidden_size": 4, "stored": rows});
            Shape::of_inspected(&report.to_string()).unwrap()
        };
        let tied = report("norms, biases");
        assert_eq!(
            (tied.body, tied.head, tied.stored_bytes),
            (800, 200, Some(120))
        );
        let apart = report("output");
        assert_eq!(
            (apart.body, apart.head, apart.stored_bytes),
            (600, 200, Some(110))
        );
        assert!(Shape::of_inspected("{}").is_err());
    }

    #[test]
    fn a_machine_is_as_fast_as_it_ever_was() {
        let mut machine = Machine::of_weights("int4").unwrap();
        machine.learn("read=4e10 f32=1 bf16=2 int8=9e11").unwrap();
        machine.learn("read=3e10 f32=1 bf16=2 int8=95e10").unwrap();
        assert_eq!(
            machine.to_string(),
            "the machine reads 40.0 GB/s and does 950 G int8 operations/s"
        );
        assert!(machine.learn("read=4e10 f32=1").is_err());
        assert!(Machine::of_weights("int3").is_err());
    }

    #[test]
    fn one_user_waits_for_memory_and_many_for_arithmetic() {
        let shape = Shape {
            body: 90,
            head: 10,
            stored_bytes: Some(50),
        };
        let machine = Machine {
            read_bytes_per_s: 100.0,
            ops_per_s: 1000.0,
            bytes_per_weight: Some(2.0),
            peak: "bf16",
        };
        let workload = |users, input, output| Workload {
            users,
            input,
            output,
            is_apart: false,
        };
        // 200 bytes in 2 s; 2 x 100 operations in 0.2 s.
        assert_eq!(shape.seconds(workload(1, 1, 3), machine), 6.0);
        // A prompt of 20: 2 x (90 x 20 + 10) operations in 3.62 s.
        assert_eq!(shape.seconds(workload(1, 20, 1), machine), 3.62);
        // 50 users: 2 x 100 x 50 operations in 10 s.
        assert_eq!(shape.seconds(workload(50, 1, 2), machine), 20.0);
        // The 50 bytes of the file in half a second.
        let stored = Machine {
            bytes_per_weight: None,
            ..machine
        };
        assert_eq!(shape.seconds(workload(1, 1, 3), stored), 1.5);
    }
}
