//! The sockets a server answers on, bound before anything else so that a taken port is known
//! before a model is loaded, and so that port 0 can be reported as the port it became.

use std::io;
use std::net::SocketAddr;

use tokio::net::{TcpListener, TcpSocket};

use crate::ServerError;

/// Connections that may wait to be accepted. Beyond it the system drops a client's first packet, and the client tries
/// again a second later. Linux takes the smaller of this and `net.core.somaxconn` (4,096 by default).
const BACKLOG: u32 = 4096;

/// Bytes of answers that the system may hold for a client of the HTTP port. Left to itself, Linux grows this to
/// megabytes, which clients that do not read would have the server fill.
const HTTP_SEND_BUFFER_BYTES: u32 = 64 << 10;

/// A bound gRPC socket and, if wanted, a bound HTTP socket.
#[derive(Debug)]
pub struct Listeners {
    pub(crate) grpc: TcpListener,
    pub(crate) http: Option<TcpListener>,
    grpc_address: SocketAddr,
    http_address: Option<SocketAddr>,
}

impl Listeners {
    /// Binds both; port 0 picks a free port.
    ///
    /// # Errors
    ///
    /// [`ServerError::Bind`] says which address could not be had, why, and what to do.
    pub async fn bind(grpc: SocketAddr, http: Option<SocketAddr>) -> Result<Self, ServerError> {
        let (grpc, grpc_address) = bind("gRPC", grpc, None)?;
        let (http, http_address) = match http {
            Some(address) => {
                let (listener, address) = bind("HTTP", address, Some(HTTP_SEND_BUFFER_BYTES))?;
                (Some(listener), Some(address))
            }
            None => (None, None),
        };
        Ok(Self {
            grpc,
            http,
            grpc_address,
            http_address,
        })
    }

    /// Where gRPC is answered.
    #[must_use]
    pub fn grpc_address(&self) -> SocketAddr {
        self.grpc_address
    }

    /// Where OpenAI's API, `/metrics` and `/health` are answered.
    #[must_use]
    pub fn http_address(&self) -> Option<SocketAddr> {
        self.http_address
    }
}

fn bind(
    purpose: &'static str,
    address: SocketAddr,
    send_buffer: Option<u32>,
) -> Result<(TcpListener, SocketAddr), ServerError> {
    let listener =
        listen(address, send_buffer).map_err(|error| ServerError::bind(purpose, address, error))?;
    let bound = listener
        .local_addr()
        .map_err(|error| ServerError::Address { purpose, error })?;
    Ok((listener, bound))
}

/// Accepted connections inherit the listener's buffers.
fn listen(address: SocketAddr, send_buffer: Option<u32>) -> io::Result<TcpListener> {
    let socket = match address {
        SocketAddr::V4(_) => TcpSocket::new_v4()?,
        SocketAddr::V6(_) => TcpSocket::new_v6()?,
    };
    // On Windows this would let two servers share a port.
    #[cfg(not(windows))]
    socket.set_reuseaddr(true)?;
    if let Some(bytes) = send_buffer {
        socket.set_send_buffer_size(bytes)?;
    }
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_taken_port_is_named_with_advice() {
        let free = SocketAddr::from(([127, 0, 0, 1], 0));
        let first = Listeners::bind(free, None).await.unwrap();
        let taken = first.grpc_address();
        let error = Listeners::bind(free, Some(taken))
            .await
            .unwrap_err()
            .to_string();
        assert!(
            error.contains(&format!("cannot listen on {taken} for HTTP")),
            "{error}"
        );
        assert!(error.contains("choose another port"), "{error}");
    }
}
