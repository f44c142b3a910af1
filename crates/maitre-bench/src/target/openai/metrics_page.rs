//! A server's `/metrics`.

use super::http::Client;
use crate::target::{STATE_TIMEOUT, in_time};
use crate::{BenchError, ServerState};

/// Where a server shows what it counts.
#[derive(Debug)]
pub(in crate::target) struct MetricsPage {
    client: Client,
    address: String,
}

impl MetricsPage {
    /// # Errors
    /// [`BenchError::Connect`] for what is no address.
    pub(in crate::target) fn new(address: &str) -> Result<Self, BenchError> {
        let failed = |reason: String| BenchError::Connect {
            address: address.to_owned(),
            reason,
        };
        if !address.starts_with("http://") {
            return Err(failed("expected http://HOST:PORT/metrics".into()));
        }
        Ok(Self {
            client: Client::new(address, None).map_err(failed)?,
            address: address.to_owned(),
        })
    }

    /// What it says now; `None` if it says nothing in time, or nothing that is understood.
    pub(in crate::target) async fn state(&self) -> Option<ServerState> {
        let page = in_time(STATE_TIMEOUT, self.client.get_at(&self.address)).await;
        let page = page.ok()?;
        let state = ServerState::parse(std::str::from_utf8(&page).ok()?);
        (state != ServerState::default()).then_some(state)
    }
}
