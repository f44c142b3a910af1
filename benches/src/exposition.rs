//! What `/metrics` says, as numbers by name.

use std::collections::HashMap;
use std::net::SocketAddr;

use anyhow::{Context, Result};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// One answer of `/metrics`, labels included in the names; series that differ in a tenant or a model are added up.
#[derive(Debug)]
pub(crate) struct Exposition(HashMap<String, f64>);

impl Exposition {
    pub(crate) async fn of(server: SocketAddr) -> Result<Self> {
        let mut stream = TcpStream::connect(server).await?;
        let request = b"GET /metrics HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n";
        stream.write_all(request).await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        Ok(Self::parse(&answer))
    }

    /// Lines `name{labels} number`; of the labels only a histogram's `le` counts.
    fn parse(text: &str) -> Self {
        let mut values = HashMap::new();
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            let Some((series, number)) = line.rsplit_once(' ') else {
                continue;
            };
            let Ok(number) = number.parse::<f64>() else {
                continue;
            };
            let (name, labels) = series.split_once('{').unwrap_or((series, ""));
            let bound = labels
                .split_once("le=\"")
                .and_then(|(_, rest)| rest.split_once('"'));
            let key = match bound {
                Some((bound, _)) => format!("{name} {bound}"),
                None => name.to_owned(),
            };
            *values.entry(key).or_default() += number;
        }
        Self(values)
    }

    pub(crate) fn value(&self, name: &str) -> Result<f64> {
        let found = self.0.get(name).copied();
        found.with_context(|| format!("the server's metrics have no {name}"))
    }

    /// Of a histogram: how many there are; none before the first.
    pub(crate) fn count(&self, name: &str) -> Result<f64> {
        Ok(self.value(&format!("{name}_count")).unwrap_or(0.0))
    }

    /// Of a histogram: their sum.
    pub(crate) fn sum(&self, name: &str) -> Result<f64> {
        Ok(self.value(&format!("{name}_sum")).unwrap_or(0.0))
    }

    /// Of a histogram: how many are at most `bound`.
    ///
    /// # Errors
    ///
    /// If it has values and no such bound.
    pub(crate) fn bucket(&self, name: &str, bound: f64) -> Result<f64> {
        match self.value(&format!("{name}_bucket {bound}")) {
            Err(_) if self.count(name)? == 0.0 => Ok(0.0),
            bucket => bucket,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_histogram_is_read_whatever_its_labels() {
        let text = "# TYPE t histogram\nt_bucket{model=\"a b\",le=\"0.002\"} 3\nt_bucket{model=\"c\",le=\"0.002\"} 4\n\
                    t_sum{model=\"a b\"} 0.5\nt_count{model=\"a b\"} 9\nsteps_total 7\n";
        let it = Exposition::parse(text);
        assert_eq!(it.bucket("t", 0.002).unwrap(), 7.0);
        assert_eq!((it.sum("t").unwrap(), it.count("t").unwrap()), (0.5, 9.0));
        assert_eq!(it.value("steps_total").unwrap(), 7.0);
        assert_eq!(it.bucket("absent", 0.002).unwrap(), 0.0);
        assert!(it.bucket("t", 0.003).is_err());
    }
}
