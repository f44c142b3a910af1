//! What is foreseen of a device's memory is what a start takes of it: on the processor and on the emulator.

use maitre_engine::{
    DeviceFit, DeviceName, Engine, EngineBuilder, ModelSource, Speculate, StartError,
};

fn builder(device: DeviceName) -> EngineBuilder {
    let model = &maitre_bundled::DRAFT;
    Engine::builder(ModelSource::Memory {
        name: model.name,
        files: model.files,
    })
    .device(device)
    .threads(Some(1))
    .speculate(Speculate::Off)
}

/// `None` after saying that there is no emulator.
fn fit(builder: &EngineBuilder) -> Option<DeviceFit> {
    match builder.device_fit() {
        Err(StartError::Setting {
            setting: "--device",
            expected,
            ..
        }) => {
            println!("skipped: {expected}");
            None
        }
        fit => Some(fit.unwrap()),
    }
}

/// Both share their rules; weights that are not loaded are counted by their numbers.
#[test]
fn what_is_foreseen_is_what_a_start_takes() {
    for device in [DeviceName::Cpu, DeviceName::Emulator] {
        let builder = builder(device)
            .kv_cache_bytes(Some(32 << 20))
            .max_model_len(Some(128));
        let Some(fit) = fit(&builder) else { return };
        assert!(fit.problem.is_none(), "{:?}", fit.problem);
        let engine = builder.build().unwrap();
        let (info, foreseen) = (engine.info(), fit.memory);
        assert_eq!((&fit.device, &fit.backend), (&info.device, &info.backend));
        assert_eq!((&fit.dtype, &fit.kv_dtype), (&info.dtype, &info.kv_dtype));
        assert_eq!(fit.limits, info.limits);
        assert_eq!(foreseen.kv_cache, info.memory.kv_cache);
        assert_eq!(foreseen.kv_per_token, info.memory.kv_per_token);
        assert_eq!(foreseen.bookkeeping, info.memory.bookkeeping);
        let ratio = foreseen.weights as f64 / info.memory.weights as f64;
        assert!((0.9..1.1).contains(&ratio), "{ratio}");
        assert!(device == DeviceName::Cpu || foreseen.workspace >= info.memory.workspace);
        assert_eq!(fit.kv_tokens, info.limits.kv_tokens() as u64);
        assert_eq!(fit.whole_sequences, info.limits.kv_tokens() / 128);
    }
}

#[test]
fn a_draft_model_takes_weights_and_cache_too() {
    let model = &maitre_bundled::DRAFT;
    let alone = builder(DeviceName::Cpu);
    let beside = alone
        .clone()
        .speculate(Speculate::Auto)
        .draft_model(Some(ModelSource::Memory {
            name: model.name,
            files: model.files,
        }));
    let alone = fit(&alone).unwrap().memory;
    let beside = fit(&beside).unwrap().memory;
    assert_eq!(
        (alone.draft_weights, beside.draft_weights),
        (0, beside.weights)
    );
    assert_eq!(beside.kv_per_token, 2 * alone.kv_per_token);
}

#[test]
fn what_does_not_fit_is_told_as_a_start_tells_it() {
    for device in [DeviceName::Cpu, DeviceName::Emulator] {
        let builder = builder(device).kv_cache_bytes(Some(1 << 50));
        let Some(fit) = fit(&builder) else { return };
        let problem = fit.problem.unwrap();
        assert!(
            matches!(problem, StartError::OutOfMemory { .. }),
            "{problem}"
        );
        assert!(fit.left_for_kv < fit.free_bytes);
    }
}

#[test]
fn settings_that_a_start_refuses_are_refused() {
    let too_long = builder(DeviceName::Cpu).max_model_len(Some(99_999));
    let refused = too_long.device_fit().unwrap_err().to_string();
    assert!(refused.contains("--max-model-len is 99999"), "{refused}");
}
