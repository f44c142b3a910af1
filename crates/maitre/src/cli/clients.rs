//! What clients may take of a server: the flags of `maitre serve` that bound them.

use std::time::Duration;

use clap::Args;
use maitre::server::Server;

use super::serve::seconds;

#[derive(Debug, Args)]
pub(crate) struct ClientArgs {
    /// Connections of each port that are open at once; a further one takes the place of the idlest.
    #[arg(long, default_value_t = 4096, value_name = "N", value_parser = at_least_one)]
    max_connections: usize,
    /// Calls that are in progress at once, those that only ask or steer aside
    /// [default: max-seqs + max-queue + 256].
    #[arg(long, value_name = "N", value_parser = at_least_one)]
    max_calls: Option<usize>,
    /// Seconds that a request's message may take to arrive.
    #[arg(long, default_value_t = 30.0, value_name = "SECONDS", value_parser = some_seconds)]
    request_timeout: f64,
    /// Seconds that a client may leave a piece of an answer unread.
    #[arg(long, default_value_t = 30.0, value_name = "SECONDS", value_parser = some_seconds)]
    stall_timeout: f64,
    /// Bytes of memory for requests that are under way [default: 134217728].
    #[arg(long, value_name = "BYTES")]
    request_bytes: Option<u64>,
    /// Bytes of memory for answers that are encoded and not yet written.
    #[arg(long, default_value_t = 268_435_456, value_name = "BYTES")]
    answer_bytes: u64,
}

impl ClientArgs {
    /// The server, with these bounds.
    pub(crate) fn bound(&self, server: Server) -> Server {
        let mut server = server
            .max_connections(self.max_connections)
            .request_timeout(Duration::from_secs_f64(self.request_timeout))
            .stall_timeout(Duration::from_secs_f64(self.stall_timeout))
            .answer_bytes(self.answer_bytes);
        if let Some(calls) = self.max_calls {
            server = server.max_calls(calls);
        }
        if let Some(bytes) = self.request_bytes {
            server = server.request_bytes(bytes);
        }
        server
    }
}

/// A number of seconds in which something can happen.
fn some_seconds(text: &str) -> Result<f64, String> {
    match seconds(text)? {
        tiny if tiny < 0.001 => Err("expected at least 0.001 seconds".to_owned()),
        seconds => Ok(seconds),
    }
}

fn at_least_one(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(0) | Err(_) => Err("expected a number from 1".to_owned()),
        Ok(number) => Ok(number),
    }
}
