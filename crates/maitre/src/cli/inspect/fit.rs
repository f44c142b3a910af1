//! Whether the model fits a device, as a start on it would find.

use anyhow::Result;
use maitre::{DeviceFit, Engine, ModelSource};
use serde_json::json;

use super::{InspectArgs, mib};

/// What a start on the device that is asked about would find; none if none is. All settings that have no flag here are
/// as they are by default.
pub(super) async fn of(
    args: &InspectArgs,
    target: ModelSource,
    draft: Option<ModelSource>,
) -> Result<Option<DeviceFit>> {
    let Some(device) = args.device else {
        return Ok(None);
    };
    let builder = Engine::builder(target)
        .device(device)
        .dtype(args.dtype.and_then(|dtype| dtype.0))
        .kv_dtype(args.kv_dtype.format())
        .max_model_len(args.max_model_len)
        .draft_model(draft);
    // Opening a GPU takes a moment.
    let fit = tokio::task::spawn_blocking(move || builder.device_fit()).await??;
    Ok(Some(fit))
}

/// A line for each part of the memory, and the verdict.
pub(super) fn table(fit: &DeviceFit) -> String {
    let DeviceFit { memory, limits, .. } = fit;
    let known = |bytes: Option<u64>| bytes.map_or_else(|| "unknown".to_owned(), mib);
    let draft = match memory.draft_weights {
        0 => String::new(),
        bytes => format!(", draft {}", mib(bytes)),
    };
    let activations = match memory.is_on_gpu {
        true => format!("activations         {}\n", mib(memory.workspace)),
        false => String::new(),
    };
    let verdict = match &fit.problem {
        None => "yes".to_owned(),
        Some(problem) => format!("no: {problem}"),
    };
    format!(
        "device              {} ({})\n\
         free                {}\n\
         weights             {} ({}){draft}\n\
         {activations}\
         left for KV         {}\n\
         KV cache            {} ({}), {} bytes/token\n\
         KV cache holds      {} tokens, {} sequences of {} tokens\n\
         fits                {verdict}\n",
        fit.device,
        fit.backend,
        known(fit.free_bytes),
        mib(memory.weights),
        fit.dtype,
        known(fit.left_for_kv),
        mib(memory.kv_cache),
        fit.kv_dtype,
        memory.kv_per_token,
        fit.kv_tokens,
        fit.whole_sequences,
        limits.max_model_len,
    )
}

pub(super) fn as_json(fit: &DeviceFit) -> serde_json::Value {
    let memory = &fit.memory;
    json!({
        "name": fit.device,
        "backend": fit.backend,
        "free_bytes": fit.free_bytes,
        "dtype": fit.dtype,
        "weight_bytes": memory.weights,
        "draft_weight_bytes": memory.draft_weights,
        "activation_bytes": memory.is_on_gpu.then_some(memory.workspace),
        "left_for_kv_bytes": fit.left_for_kv,
        "kv_dtype": fit.kv_dtype,
        "kv_bytes_per_token": memory.kv_per_token,
        "kv_cache_bytes": memory.kv_cache,
        "kv_tokens": fit.kv_tokens,
        "max_model_len": fit.limits.max_model_len,
        "whole_sequences": fit.whole_sequences,
        "fits": fit.problem.is_none(),
        "problem": fit.problem.as_ref().map(ToString::to_string),
    })
}
