//! The memory there is for an engine, on its device and on the host, and whether it is enough.
//!
//! ```text
//! processor      weights, KV pool, workspace, host tier, bookkeeping      all in the host's memory
//! GPU            weights, KV pool, workspace in its own                   host tier, bookkeeping in the host's
//! unified        all in one; what the engine spends leaves a share to the host, and bookkeeping comes out of that
//! ```

use maitre_tensor::{Backend, GpuMemory};

use crate::StartError;
use crate::observe::info::MemoryBudget;
use crate::start::budget::Left;
use crate::start::machine::{MemoryLimit, available_memory};

/// Hundredths of a GPU's free memory that may be spent: the driver and recorded steps need the rest.
const GPU_SHARE: u64 = 92;
/// The same where the memory is the host's too.
const UNIFIED_SHARE: u64 = 60;

/// What is left once the weights are loaded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct MemoryPlan {
    kind: Kind,
    /// Bytes that were free where weights and KV pool lie, when it was looked; `None` where it can't be read.
    pub(crate) free: Option<u64>,
    /// Bytes of them that the weights leave and that may be spent; as above.
    pub(crate) device: Option<u64>,
    /// Bytes that the weights take beyond what was free.
    missing: u64,
    /// Bytes of the host; as above.
    host: Option<u64>,
    /// The control group's limit that leaves the host no more.
    pub(crate) limit: Option<MemoryLimit>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Processor,
    Gpu,
    Unified,
}

impl MemoryPlan {
    /// The memory of `backend`, on which the weights lie already. An operator who has set the size of the KV pool may
    /// spend all there is.
    pub(crate) fn of(backend: &Backend, is_pool_given: bool) -> Result<Self, StartError> {
        Self::before_loading(backend, is_pool_given, 0)
    }

    /// The same before `weights` bytes are loaded.
    pub(crate) fn before_loading(
        backend: &Backend,
        is_pool_given: bool,
        weights: u64,
    ) -> Result<Self, StartError> {
        let (host, limit) = match available_memory() {
            Some(available) => (Some(available.bytes), available.limit),
            None => (None, None),
        };
        let (Some(memory), Some(info)) = (backend.gpu_memory()?, backend.gpu_info()) else {
            return Ok(Self {
                limit,
                ..Self::on_processor(host, weights)
            });
        };
        let plan = Self::on_gpu(memory, info.is_unified, host, is_pool_given, weights);
        Ok(Self { limit, ..plan })
    }

    fn on_processor(host: Option<u64>, weights: u64) -> Self {
        let left = host.map(|free| free.saturating_sub(weights));
        Self {
            kind: Kind::Processor,
            free: host,
            device: left,
            missing: host.map_or(0, |free| weights.saturating_sub(free)),
            host: left,
            limit: None,
        }
    }

    fn on_gpu(
        memory: GpuMemory,
        is_unified: bool,
        host: Option<u64>,
        is_pool_given: bool,
        weights: u64,
    ) -> Self {
        let (kind, share) = match is_unified {
            true => (Kind::Unified, UNIFIED_SHARE),
            false => (Kind::Gpu, GPU_SHARE),
        };
        // The system drops cached files when memory is asked for, but the GPU's free memory does not count them.
        let free = match is_unified {
            true => memory.free_bytes.max(host.unwrap_or(0)),
            false => memory.free_bytes,
        };
        let free = free.min(memory.total_bytes);
        let left = free.saturating_sub(weights);
        let spendable = match is_pool_given {
            true => left,
            false => left / 100 * share,
        };
        Self {
            kind,
            free: Some(free),
            device: Some(spendable),
            missing: weights.saturating_sub(free),
            host,
            limit: None,
        }
    }

    /// What is left for the KV pool, beside `activations` on the device and a host tier of `host_kv` bytes.
    pub(crate) fn for_kv(&self, activations: u64, host_kv: u64) -> Left {
        let left = |taken: u64| Left::Gpu(self.device.unwrap_or(0).saturating_sub(taken));
        match self.kind {
            Kind::Processor => Left::Host(self.device),
            Kind::Gpu => left(activations),
            Kind::Unified => left(activations.saturating_add(host_kv)),
        }
    }

    /// What is reserved at start must fit into what the weights left.
    pub(crate) fn check(&self, memory: &MemoryBudget) -> Result<(), StartError> {
        let beside_host_kv = memory.bookkeeping.saturating_add(memory.unread_answers);
        let on_host = memory.host_kv.saturating_add(beside_host_kv);
        let beside_kv = memory.workspace.saturating_add(match self.kind {
            Kind::Processor => on_host,
            Kind::Gpu => 0,
            Kind::Unified => memory.host_kv,
        });
        let reserved = memory.kv_cache.saturating_add(beside_kv);
        let weights = memory.weights.saturating_add(memory.draft_weights);
        if let Some(available) = self.device.filter(|&available| reserved > available) {
            return Err(StartError::OutOfMemory {
                kv_tokens_that_fit: available.saturating_sub(beside_kv)
                    / memory.kv_per_token.max(1),
                needed: weights.saturating_add(reserved),
                weights,
                kv: memory.kv_cache,
                host_kv: memory.host_kv,
                workspace: memory.workspace,
                available: available
                    .saturating_add(weights)
                    .saturating_sub(self.missing),
                place: self.place(),
            });
        }
        match self.host {
            Some(host) if self.kind == Kind::Gpu && on_host > host => Err(StartError::Setting {
                setting: "--host-kv-bytes",
                found: memory.host_kv.to_string(),
                expected: format!(
                    "at most {}, which the host has left",
                    host.saturating_sub(beside_host_kv)
                ),
            }),
            _ => Ok(()),
        }
    }

    /// Which memory is meant, in an error message.
    fn place(&self) -> String {
        let place = match self.kind {
            Kind::Processor => {
                return match &self.limit {
                    Some(limit) => format!("are available (limited to {limit})"),
                    None => "are available".to_owned(),
                };
            }
            Kind::Gpu => {
                "may be spent on the GPU (92 % of what is free, unless --kv-cache-bytes is given)"
            }
            Kind::Unified => {
                "may be spent of the memory that GPU and host share (60 % of what is free, unless --kv-cache-bytes is given)"
            }
        };
        place.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GPU: GpuMemory = GpuMemory {
        free_bytes: 1000,
        total_bytes: 2000,
    };

    fn memory(kv_cache: u64, host_kv: u64, workspace: u64) -> MemoryBudget {
        MemoryBudget {
            kv_cache,
            host_kv,
            workspace,
            bookkeeping: 5,
            kv_per_token: 1,
            ..MemoryBudget::default()
        }
    }

    #[test]
    fn a_share_is_left_unless_somebody_said_how_much() {
        let device = |unified, given| MemoryPlan::on_gpu(GPU, unified, Some(700), given, 0).device;
        assert_eq!(device(false, false), Some(920));
        assert_eq!(device(false, true), Some(1000));
        assert_eq!(device(true, false), Some(600));
        let cached = MemoryPlan::on_gpu(GPU, true, Some(1500), true, 0).device;
        assert_eq!(cached, Some(1500), "cached files count as free");
        let beyond = MemoryPlan::on_gpu(GPU, true, Some(9000), true, 0).device;
        assert_eq!(beyond, Some(2000), "not more than there is");
    }

    #[test]
    fn a_gpu_and_its_host_are_counted_apart() {
        let plan = MemoryPlan::on_gpu(GPU, false, Some(100), false, 0);
        assert!(plan.check(&memory(900, 95, 20)).is_ok());
        assert!(plan.check(&memory(901, 0, 20)).is_err());
        let refused = plan.check(&memory(100, 96, 0)).unwrap_err().to_string();
        assert_eq!(
            refused,
            "--host-kv-bytes is 96; expected at most 95, which the host has left"
        );
        assert!(matches!(plan.for_kv(20, 50), Left::Gpu(900)));
    }

    #[test]
    fn what_is_shared_is_counted_together() {
        let plan = MemoryPlan::on_gpu(GPU, true, Some(100), false, 0);
        assert!(plan.check(&memory(500, 80, 20)).is_ok());
        assert!(plan.check(&memory(500, 81, 20)).is_err());
        assert!(matches!(plan.for_kv(20, 80), Left::Gpu(500)));
    }

    #[test]
    fn on_the_processor_everything_is() {
        let plan = MemoryPlan {
            limit: Some(MemoryLimit {
                bytes: 1 << 20,
                file: "/cg/memory.max".into(),
            }),
            ..MemoryPlan::on_processor(Some(100), 0)
        };
        assert!(plan.check(&memory(50, 20, 25)).is_ok());
        let refused = plan.check(&memory(50, 21, 25)).unwrap_err().to_string();
        let expected = "100 bytes are available (limited to 1.0 MiB by /cg/memory.max);";
        assert!(refused.contains(expected), "{refused}");
    }

    #[test]
    fn weights_that_are_not_there_yet_are_taken_from_what_is_free() {
        let gpu = |weights| MemoryPlan::on_gpu(GPU, false, Some(700), false, weights);
        assert_eq!(gpu(500).free, Some(1000));
        assert_eq!(gpu(500).device, Some(460));
        assert_eq!(gpu(500).host, Some(700), "they do not lie there");
        let processor = MemoryPlan::on_processor(Some(700), 500);
        assert_eq!((processor.free, processor.device), (Some(700), Some(200)));
        let budget = MemoryBudget {
            weights: 1200,
            ..memory(1, 0, 0)
        };
        let refused = gpu(1200).check(&budget).unwrap_err().to_string();
        assert!(
            refused.contains("would need 1201 bytes")
                && refused.contains("1000 bytes may be spent"),
            "{refused}"
        );
    }
}
