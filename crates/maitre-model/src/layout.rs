//! What a directory without a Hugging Face model holds instead, to end a message with.

/// A kind of file, and what to say about it.
struct Kind {
    is_of: fn(&str) -> bool,
    what: &'static str,
}

/// Layouts that have no `config.json`.
const LAYOUTS: &[Kind] = &[
    Kind {
        is_of: |name| name.starts_with("adapter_model.") || name == "adapter_config.json",
        what: ", which is of a LoRA adapter: merge it into its base model and give the result",
    },
    Kind {
        is_of: |name| name.starts_with("consolidated.") || name == "params.json",
        what: ", which is of the authors' own layout: download the Hugging Face layout",
    },
    Kind {
        is_of: |name| name == "snapshots",
        what: ", which is of the Hub's cache: give the name ORG/NAME, or the directory below snapshots/",
    },
    Kind {
        is_of: |name| name.starts_with("mmproj") && name.ends_with(".gguf"),
        what: ", which turns images into tokens and is no model: download the model's own file beside it",
    },
    Kind {
        is_of: |name| name.ends_with(".gguf"),
        what: ", which is a GGUF file: give that file itself",
    },
];

/// Weights under other names or in other formats.
const WEIGHTS: &[Kind] = &[
    Kind {
        is_of: |name| name.ends_with(".safetensors") && name.contains("-of-"),
        what: " but not model.safetensors.index.json, which lists the shards: download it too",
    },
    Kind {
        is_of: |name| name.ends_with(".safetensors"),
        what: ": if it is the whole model, rename it to model.safetensors",
    },
    Kind {
        is_of: |name| has_ending(name, &[".bin", ".pt", ".pth", ".ckpt"]),
        what: ", which is in PyTorch's format and could run code: load the model with transformers and save it \
               again, which writes safetensors",
    },
    Kind {
        is_of: |name| has_ending(name, &[".h5", ".msgpack", ".onnx", ".npz"]),
        what: ", whose format is not supported: download the model's safetensors files",
    },
];

fn has_ending(name: &str, endings: &[&str]) -> bool {
    endings.iter().any(|ending| name.ends_with(ending))
}

/// Describes a file of `names` that tells what was given in place of a model; empty if none does.
pub(crate) fn instead_of_model(names: &[String]) -> String {
    describe(names, LAYOUTS.iter())
}

/// Describes a file of `names` that tells where the weights are; empty if none does.
pub(crate) fn instead_of_weights(names: &[String]) -> String {
    describe(names, LAYOUTS.iter().chain(WEIGHTS))
}

fn describe<'a>(names: &[String], mut kinds: impl Iterator<Item = &'a Kind>) -> String {
    let found = kinds.find_map(|kind| {
        let name = names.iter().find(|name| (kind.is_of)(name))?;
        Some(format!("; found {name}{}", kind.what))
    });
    found.unwrap_or_default()
}
