//! `--grpc-addr` and `--http-addr`: an address and a port, or a host's name and a port.

use std::net::{SocketAddr, ToSocketAddrs};
use std::str::FromStr;

use anyhow::{Context, Result, bail};

/// Where to listen, as given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum ListenAddr {
    Socket(SocketAddr),
    /// A host's name, looked up when the socket is bound.
    Host {
        name: String,
        port: u16,
    },
}

impl FromStr for ListenAddr {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Ok(address) = text.parse() {
            return Ok(Self::Socket(address));
        }
        let expected = |why: &str| {
            Err(format!(
                "{why}; expected ADDRESS:PORT or HOST:PORT, such as 127.0.0.1:50051, [::1]:50051, 0.0.0.0:50051 \
                 (every address of this machine) or localhost:0 (a free port)"
            ))
        };
        if text.contains("://") {
            return expected("this is a URL");
        }
        let Some((host, port)) = text.rsplit_once(':') else {
            return expected("there is no port");
        };
        let Ok(port) = port.parse() else {
            return expected(&format!(
                "{port:?} is no port, which are the numbers 0 to 65535"
            ));
        };
        if host.is_empty() {
            return expected("there is no address");
        }
        let is_name = |host: &str| {
            let is_part = |sign: char| sign.is_alphanumeric() || "-_.".contains(sign);
            host.chars().all(is_part) && !host.starts_with('-')
        };
        // Digits and dots alone would be an IPv4 address, and a wrong one.
        if !is_name(host)
            || host
                .chars()
                .all(|sign| sign.is_ascii_digit() || sign == '.')
        {
            return expected(&format!("{host:?} is neither an address nor a host's name"));
        }
        Ok(Self::Host {
            name: host.to_owned(),
            port,
        })
    }
}

impl ListenAddr {
    /// The address to bind. Of a name that has several, the first of IPv4: that is where clients look first.
    pub(crate) async fn resolve(&self) -> Result<SocketAddr> {
        let (name, port) = match self {
            Self::Socket(address) => return Ok(*address),
            Self::Host { name, port } => (name.clone(), *port),
        };
        let asked = name.clone();
        let lookup = tokio::task::spawn_blocking(move || (asked.as_str(), port).to_socket_addrs());
        let found: Vec<SocketAddr> = lookup
            .await?
            .with_context(|| {
                format!("cannot find the address of host {name:?}; give an address, such as 127.0.0.1:{port}")
            })?
            .collect();
        match found
            .iter()
            .find(|address| address.is_ipv4())
            .or(found.first())
        {
            Some(address) => Ok(*address),
            None => bail!("host {name:?} has no address; give one, such as 127.0.0.1:{port}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_and_names_are_taken() {
        for text in ["127.0.0.1:0", "[::1]:50051", "0.0.0.0:1"] {
            let expected = ListenAddr::Socket(text.parse().unwrap());
            assert_eq!(text.parse(), Ok(expected), "{text}");
        }
        for (text, name, port) in [
            ("localhost:0", "localhost", 0),
            ("my-host.example.org:50051", "my-host.example.org", 50051),
        ] {
            let name = name.to_owned();
            assert_eq!(text.parse(), Ok(ListenAddr::Host { name, port }), "{text}");
        }
    }

    #[test]
    fn what_is_neither_is_refused_with_the_reason() {
        for (text, why) in [
            ("nowhere", "there is no port"),
            ("", "there is no port"),
            (":50051", "there is no address"),
            ("localhost:", "is no port"),
            ("localhost:grpc", "is no port"),
            ("localhost:70000", "is no port"),
            ("127.0.0.1:70000", "is no port"),
            ("127.0.0.300:1", "neither an address nor"),
            ("::1:50051", "neither an address nor"),
            ("*:50051", "neither an address nor"),
            ("a b:1", "neither an address nor"),
            ("http://localhost:50051", "this is a URL"),
        ] {
            let error = text.parse::<ListenAddr>().unwrap_err();
            assert!(error.contains(why), "{text}: {error}");
            assert!(error.contains("expected ADDRESS:PORT or HOST:PORT"));
        }
    }

    #[tokio::test]
    async fn the_loopback_host_is_found() {
        let address: ListenAddr = "localhost:7".parse().unwrap();
        let found = address.resolve().await.unwrap();
        assert!(found.ip().is_loopback() && found.port() == 7, "{found}");
    }
}
