//! Why a simulation cannot be made. A request that is refused during one is counted, not an error.

use maitre_scheduler::SchedulerError;
use maitre_workload::SettingError;

/// What is wrong with the question.
#[derive(Debug, thiserror::Error)]
pub enum SimError {
    /// A number is outside its range.
    #[error(transparent)]
    Setting(#[from] SettingError),
    /// The model is larger than the memory.
    #[error(
        "the weights of {model} take {weight_bytes} bytes and {hardware} has {usable_bytes} for weights and KV cache; \
         choose fewer bytes per weight, a smaller model or hardware with more memory"
    )]
    DoesNotFit {
        /// The model.
        model: String,
        /// The hardware.
        hardware: String,
        /// Bytes of the weights.
        weight_bytes: u64,
        /// Bytes that may be used.
        usable_bytes: u64,
    },
    /// The model and one request are larger than the memory of a box.
    #[error(
        "{model} does not fit on {devices} × {hardware}: its weights take {weight_bytes} bytes, and {missing_bytes} are missing for \
         them and the KV cache of one request; {remedies}"
    )]
    NoPlace {
        /// The model.
        model: String,
        /// Devices of a box.
        devices: u32,
        /// The hardware.
        hardware: String,
        /// Bytes of the weights.
        weight_bytes: u64,
        /// Bytes that are missing.
        missing_bytes: u64,
        /// What would make it fit.
        remedies: String,
    },
    /// Not even the least load keeps to the SLO.
    #[error(
        "{share:.0} % of the answers within {slo} cannot be reached: with a load of {load} {unit} the best is {best}; allow more time, or \
         choose faster hardware, more devices or fewer bytes per weight"
    )]
    SloUnmet {
        /// The bounds.
        slo: String,
        /// The share of answers that has to keep to them, in percent.
        share: f64,
        /// The least load that was tried.
        load: String,
        /// Its unit.
        unit: &'static str,
        /// What such a share of the answers keeps to then.
        best: String,
    },
    /// The scheduler does not take the configuration.
    #[error(transparent)]
    Scheduler(#[from] SchedulerError),
    /// Requests wait and no step can be planned. The scheduler promises that this does not happen.
    #[error(
        "replica {replica} has {waiting} waiting requests at {seconds} s and plans no step for them: this is a fault of the \
         scheduler, please report it with the command"
    )]
    Stalled {
        /// The replica, counted from 0.
        replica: usize,
        /// Its waiting requests.
        waiting: usize,
        /// Simulated time, in seconds.
        seconds: f64,
    },
}

impl SimError {
    pub(crate) fn setting(
        setting: &'static str,
        found: impl ToString,
        expected: impl Into<String>,
    ) -> Self {
        Self::Setting(SettingError::new(setting, found, expected))
    }
}

/// A number of a model, of hardware or of a rate that has to be above 0.
pub(crate) fn check_positive(setting: &'static str, value: f64) -> Result<(), SimError> {
    match value.is_finite() && value > 0.0 {
        true => Ok(()),
        false => Err(SimError::setting(setting, value, "a number above 0")),
    }
}

/// A time in seconds, which may be 0.
pub(crate) fn check_seconds(setting: &'static str, value: f64) -> Result<(), SimError> {
    match value.is_finite() && value >= 0.0 {
        true => Ok(()),
        false => Err(SimError::setting(setting, value, "0 seconds or more")),
    }
}
