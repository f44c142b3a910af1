//! From settings to a running engine: check, load, plan the memory, put the pieces together.

pub(crate) mod budget;
pub(crate) mod build;
pub(crate) mod builder;
pub(crate) mod check_files;
pub(crate) mod custom_policy;
pub(crate) mod device_fit;
pub(crate) mod divide;
pub(crate) mod formats;
pub(crate) mod load_draft;
pub(crate) mod load_progress;
pub(crate) mod load_tokenizer;
pub(crate) mod machine;
pub(crate) mod memory_plan;
pub(crate) mod parts;
pub(crate) mod settings;
