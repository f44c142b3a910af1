//! What a family's tensors are called in a file.
//!
//! The Hub has names for each family, a GGUF file one for each use. So the names are paired by use.

use crate::names::{EMBEDDING, HEAD, Names, POSITIONS, Stacked};

/// The three projections in one tensor.
pub(super) const FUSED_QKV: &str = "attn_qkv";
pub(super) const QKV: [&str; 3] = ["attn_q", "attn_k", "attn_v"];
/// Of the norms before attention, after it, before the MLP and after it.
const NORMS: [&str; 4] = [
    "attn_norm",
    "post_attention_norm",
    "ffn_norm",
    "post_ffw_norm",
];

/// The modules of a layer: names on the Hub and in a file.
#[derive(Debug)]
pub(crate) struct NamesInFile {
    modules: Vec<(&'static str, &'static str)>,
}

impl NamesInFile {
    /// Those of the family that has these names on the Hub; `renamed` are modules that have another name in a file than by
    /// their use.
    pub(crate) fn of(names: &Names, renamed: &[(&str, &'static str)]) -> Self {
        let mut modules = vec![(names.output, "attn_output"), (names.down, "ffn_down")];
        match names.qkv {
            Stacked::Apart(apart) => modules.extend(apart.into_iter().zip(QKV)),
            Stacked::Fused(fused) => modules.push((fused, FUSED_QKV)),
        }
        match names.gate_up {
            Stacked::Apart(apart) => modules.extend(apart.into_iter().zip(["ffn_gate", "ffn_up"])),
            Stacked::Fused(fused) => modules.push((fused, "ffn_up")),
        }
        modules.extend(
            names
                .head_norms
                .into_iter()
                .zip(["attn_q_norm", "attn_k_norm"]),
        );
        let norms = names.norms.in_order().into_iter().zip(NORMS);
        modules.extend(norms.filter_map(|(there, here)| Some((there?, here))));
        for (_, here) in &mut modules {
            let own = renamed.iter().find(|(usual, _)| usual == here);
            *here = own.map_or(*here, |(_, own)| *own);
        }
        Self { modules }
    }

    /// The name in a file of the tensor that is called `name` on the Hub.
    pub(crate) fn in_file(&self, name: &str) -> String {
        match name {
            EMBEDDING => return "token_embd.weight".to_owned(),
            HEAD => return "output.weight".to_owned(),
            "model.norm.weight" => return "output_norm.weight".to_owned(),
            "model.norm.bias" => return "output_norm.bias".to_owned(),
            POSITIONS => return "position_embd.weight".to_owned(),
            _ => {}
        }
        let parts = name.strip_prefix("model.layers.").and_then(|rest| {
            let (layer, rest) = rest.split_once('.')?;
            let (module, kind) = rest.rsplit_once('.')?;
            let (_, here) = self.modules.iter().find(|(there, _)| *there == module)?;
            Some(format!("blk.{layer}.{here}.{kind}"))
        });
        parts.unwrap_or_else(|| name.to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registry::Architecture;

    #[test]
    fn names_are_translated_by_their_use() {
        for (family, there, here) in [
            ("LlamaForCausalLM", EMBEDDING, "token_embd.weight"),
            (
                "LlamaForCausalLM",
                "model.layers.12.self_attn.q_proj.bias",
                "blk.12.attn_q.bias",
            ),
            (
                "LlamaForCausalLM",
                "model.layers.0.post_attention_layernorm.weight",
                "blk.0.ffn_norm.weight",
            ),
            (
                "Gemma3ForCausalLM",
                "model.layers.0.post_attention_layernorm.weight",
                "blk.0.post_attention_norm.weight",
            ),
            (
                "Gemma3ForCausalLM",
                "model.layers.0.pre_feedforward_layernorm.weight",
                "blk.0.ffn_norm.weight",
            ),
            (
                "Olmo3ForCausalLM",
                "model.layers.9.post_feedforward_layernorm.weight",
                "blk.9.post_ffw_norm.weight",
            ),
            (
                "Phi3ForCausalLM",
                "model.layers.1.self_attn.qkv_proj.weight",
                "blk.1.attn_qkv.weight",
            ),
            (
                "Phi3ForCausalLM",
                "model.layers.1.mlp.gate_up_proj.weight",
                "blk.1.ffn_up.weight",
            ),
            (
                "Qwen3ForCausalLM",
                "model.layers.3.other.weight",
                "model.layers.3.other.weight",
            ),
        ] {
            let mut all = Architecture::all();
            let family = all.find(|it| it.class_name() == family).unwrap().family();
            assert_eq!(NamesInFile::of(&family.names, &[]).in_file(there), here);
        }
    }
}
