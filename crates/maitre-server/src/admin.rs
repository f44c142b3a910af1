//! `AdminService`: what the server is and how busy it is.

use maitre_engine::{Engine, limits};
use maitre_proto::v1;
use maitre_proto::v1::admin_service_server::AdminService;
use tonic::{Request, Response, Status};

use crate::convert::response::duration;
use crate::convert::{saturating_u32, saturating_u64};

/// The service; one per server.
#[derive(Debug)]
pub(crate) struct Admin {
    pub(crate) engine: Engine,
    pub(crate) max_message_bytes: usize,
    pub(crate) max_calls: usize,
}

#[tonic::async_trait]
impl AdminService for Admin {
    async fn get_server_info(
        &self,
        _request: Request<v1::GetServerInfoRequest>,
    ) -> Result<Response<v1::GetServerInfoResponse>, Status> {
        let info = self.engine.info();
        let (bounds, memory) = (&info.limits, &info.memory);
        Ok(Response::new(v1::GetServerInfoResponse {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            model: info.model.clone(),
            device: info.device.clone(),
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
                max_message_bytes: saturating_u64(self.max_message_bytes),
                max_calls: saturating_u32(self.max_calls),
                max_n: limits::MAX_N,
                max_stop_strings: saturating_u32(limits::MAX_STOP_STRINGS),
            }),
            memory: Some(v1::Memory {
                weight_bytes: memory.weights,
                kv_bytes: memory.kv_cache,
                kv_bytes_per_token: memory.kv_per_token,
                workspace_bytes: memory.workspace,
            }),
            uptime: Some(duration(self.engine.uptime())),
        }))
    }

    async fn get_load(
        &self,
        _request: Request<v1::GetLoadRequest>,
    ) -> Result<Response<v1::GetLoadResponse>, Status> {
        let load = self.engine.load();
        Ok(Response::new(v1::GetLoadResponse {
            running: saturating_u32(load.running),
            waiting: saturating_u32(load.waiting),
            in_flight: saturating_u32(load.in_flight),
            kv_used_blocks: saturating_u32(load.kv_used_blocks),
            kv_total_blocks: saturating_u32(load.kv_total_blocks),
            output_tokens_per_second: load.output_tokens_per_second,
            preemptions: load.preemptions,
        }))
    }
}
