//! How an error is told: what happened, then its causes, each of them once.
//!
//! Many libraries repeat their cause in their own text and give it as the source too.

use std::error::Error;
use std::iter::successors;

/// The error and its causes in one line. A cause whose text stands in what was said already is left out.
pub(crate) fn report(error: &(dyn Error + 'static)) -> String {
    let mut line = String::new();
    for cause in successors(Some(error), |&error| error.source()) {
        let text = cause.to_string();
        if line.contains(text.trim()) {
            continue;
        }
        if !line.is_empty() {
            line += ": ";
        }
        line += &text;
    }
    line
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("cannot listen on 127.0.0.1:1: {source}; choose another port")]
    struct Quotes {
        source: io::Error,
    }

    #[test]
    fn a_cause_is_told_once() {
        let in_use = || io::Error::from(io::ErrorKind::AddrInUse);
        let quotes = anyhow::Error::from(Quotes { source: in_use() });
        let expected = format!(
            "cannot listen on 127.0.0.1:1: {}; choose another port",
            in_use()
        );
        assert_eq!(report(quotes.as_ref()), expected);
        let around = quotes.context("starting");
        assert_eq!(report(around.as_ref()), format!("starting: {expected}"));
        let plain = anyhow::Error::from(in_use())
            .context("binding")
            .context("starting");
        assert_eq!(
            report(plain.as_ref()),
            format!("starting: binding: {}", in_use())
        );
        assert_eq!(report(anyhow::anyhow!("alone").as_ref()), "alone");
    }
}
