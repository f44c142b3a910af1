//! What a directory without a Hugging Face model holds instead, to end a message with.

/// Describes the first file of `names` that tells what was given in place of a model; empty if none does.
pub(crate) fn found_instead(names: &[String]) -> String {
    let find = |matches: &dyn Fn(&str) -> bool| names.iter().find(|name| matches(name));
    let ends = |ending: &'static str| move |name: &str| name.ends_with(ending);
    let is_adapter =
        |name: &str| name.starts_with("adapter_model.") || name == "adapter_config.json";
    let is_consolidated = |name: &str| name.starts_with("consolidated.") || name == "params.json";
    let is_shard = |name: &str| name.ends_with(".safetensors") && name.contains("-of-");
    let is_pytorch = |name: &str| {
        [".bin", ".pt", ".pth", ".ckpt"]
            .iter()
            .any(|end| name.ends_with(end))
    };
    let is_other = |name: &str| {
        [".h5", ".msgpack", ".onnx", ".npz"]
            .iter()
            .any(|end| name.ends_with(end))
    };
    let is_cache = |name: &str| name == "snapshots";
    type Kind<'a> = (&'a dyn Fn(&str) -> bool, &'static str);
    let kinds: [Kind<'_>; 8] = [
        (
            &is_adapter,
            "of a LoRA adapter: merge it into its base model and give the result",
        ),
        (
            &is_consolidated,
            "of the authors' own layout: download the Hugging Face layout beside it",
        ),
        (
            &is_shard,
            "but not the index model.safetensors.index.json, which lists the shards: download it too",
        ),
        (
            &ends(".safetensors"),
            "under a name of its own: if it is the whole model, rename it to model.safetensors",
        ),
        (
            &is_pytorch,
            "in PyTorch's format, which can run code when it is read: load the model with transformers and save it again, which writes safetensors",
        ),
        (
            &ends(".gguf"),
            "in the GGUF format, which is not supported: download the model's safetensors files",
        ),
        (
            &is_other,
            "in a format that is not supported: download the model's safetensors files",
        ),
        (
            &is_cache,
            "of the Hub's cache: give the name ORG/NAME, or the directory below snapshots/",
        ),
    ];
    kinds
        .iter()
        .find_map(|(matches, what)| Some((find(*matches)?, what)))
        .map_or_else(String::new, |(name, what)| {
            format!("; found {name} instead, {what}")
        })
}
