//! `AdminService`: what the server is and how busy it is.

use maitre_engine::{Acceptance, Scheduling, Speculate, Speculation, limits};
use maitre_proto::codec::Encoded;
use maitre_proto::v1;
use maitre_proto::v1::admin_service_server::AdminService;
use tonic::{Request, Response, Status};

use super::cache_events::{self, ResponseStream};
use super::convert::response::duration;
use super::convert::{saturating_u32, saturating_u64};
use super::decoded;
use crate::service::Service;

/// The service of the API; one per server.
#[derive(Debug)]
pub(super) struct Admin {
    service: Service,
}

impl Admin {
    pub(super) fn new(service: Service) -> Self {
        Self { service }
    }
}

#[tonic::async_trait]
impl AdminService for Admin {
    async fn get_server_info(
        &self,
        request: Request<Encoded<v1::GetServerInfoRequest>>,
    ) -> Result<Response<v1::GetServerInfoResponse>, Status> {
        decoded(request.into_inner())?;
        let engine = self.service.engine()?;
        let info = engine.info();
        let max_message_bytes = self.service.limits().max_message_bytes;
        let (bounds, memory) = (&info.limits, &info.memory);
        Ok(Response::new(v1::GetServerInfoResponse {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            model: info.model.clone(),
            device: info.device.clone(),
            backend: info.backend.clone(),
            deterministic: info.deterministic,
            threads: saturating_u32(info.threads),
            dtype: info.dtype.clone(),
            kv_dtype: info.kv_dtype.clone(),
            limits: Some(v1::Limits {
                max_model_len: saturating_u32(bounds.max_model_len),
                max_seqs: saturating_u32(bounds.max_seqs),
                max_batched_tokens: saturating_u32(bounds.max_batched_tokens),
                max_queue: saturating_u32(bounds.max_queue),
                kv_block_size: saturating_u32(bounds.block_size),
                kv_total_blocks: saturating_u32(bounds.num_blocks),
                max_message_bytes: saturating_u64(max_message_bytes),
                max_calls: saturating_u32(self.service.max_calls()?),
                max_n: limits::MAX_N,
                max_stop_strings: saturating_u32(limits::MAX_STOP_STRINGS),
                max_queued_tokens: saturating_u64(bounds.max_queued_tokens),
                kv_host_blocks: saturating_u32(bounds.num_host_blocks),
            }),
            scheduling: Some(scheduling(&info.scheduling)),
            memory: Some(v1::Memory {
                weight_bytes: memory.weights,
                kv_bytes: memory.kv_cache,
                kv_bytes_per_token: memory.kv_per_token,
                workspace_bytes: memory.workspace,
                host_kv_bytes: memory.host_kv,
                bookkeeping_bytes: memory.bookkeeping,
                draft_weight_bytes: memory.draft_weights,
            }),
            speculation: Some(speculation(&info.speculation)),
            uptime: Some(duration(engine.uptime())),
        }))
    }

    async fn get_load(
        &self,
        request: Request<Encoded<v1::GetLoadRequest>>,
    ) -> Result<Response<v1::GetLoadResponse>, Status> {
        decoded(request.into_inner())?;
        let load = self.service.engine()?.load();
        Ok(Response::new(v1::GetLoadResponse {
            running: saturating_u32(load.running),
            waiting: saturating_u32(load.waiting),
            in_flight: saturating_u32(load.in_flight),
            kv_used_blocks: saturating_u32(load.kv_used_blocks),
            kv_total_blocks: saturating_u32(load.kv_total_blocks),
            output_tokens_per_second: load.output_tokens_per_second,
            preemptions: load.preemptions,
            preempted_waiting: saturating_u32(load.preempted_waiting),
            waiting_tokens: saturating_u64(load.waiting_tokens),
            kv_cached_blocks: saturating_u32(load.kv_cached_blocks),
            kv_host_blocks: saturating_u32(load.kv_host_blocks),
            prefix_queries: load.prefix_queries,
            prefix_hits: load.prefix_hits,
            estimated_wait: load.estimated_wait.map(duration),
        }))
    }

    async fn reset_prefix_cache(
        &self,
        request: Request<Encoded<v1::ResetPrefixCacheRequest>>,
    ) -> Result<Response<v1::ResetPrefixCacheResponse>, Status> {
        decoded(request.into_inner())?;
        let forgotten = self.service.reset_prefix_cache().await?;
        Ok(Response::new(v1::ResetPrefixCacheResponse {
            forgotten_blocks: saturating_u64(forgotten),
        }))
    }

    type WatchCacheEventsStream = ResponseStream;

    async fn watch_cache_events(
        &self,
        request: Request<Encoded<v1::WatchCacheEventsRequest>>,
    ) -> Result<Response<ResponseStream>, Status> {
        decoded(request.into_inner())?;
        let events = self.service.cache_events()?;
        Ok(Response::new(cache_events::responses(events)))
    }
}

fn scheduling(scheduling: &Scheduling) -> v1::Scheduling {
    v1::Scheduling {
        policy: scheduling.policy_name().to_owned(),
        prefix_cache: scheduling.prefix_cache,
        attention_window: scheduling.window().map_or(0, saturating_u32),
        itl_target: scheduling.itl_target.map(duration),
        max_queue_wait: scheduling.max_queue_wait.map(duration),
    }
}

fn speculation(speculation: &Speculation) -> v1::Speculation {
    let mode = match speculation.speculate {
        Speculate::Off => {
            return v1::Speculation {
                mode: "off".to_owned(),
                ..Default::default()
            };
        }
        Speculate::Ngram => "ngram",
        Speculate::Suffix => "suffix",
        Speculate::Draft => "draft",
        Speculate::Auto => "auto",
    };
    let acceptance = match speculation.acceptance {
        Acceptance::Coupling => "coupling",
        Acceptance::Rejection => "rejection",
    };
    v1::Speculation {
        mode: mode.to_owned(),
        draft_tokens: saturating_u32(speculation.draft_tokens),
        acceptance: acceptance.to_owned(),
        draft_model: speculation.draft.as_ref().map(|draft| v1::DraftModel {
            name: draft.model.clone(),
            num_parameters: draft.parameters,
            dtype: draft.dtype.clone(),
        }),
    }
}
