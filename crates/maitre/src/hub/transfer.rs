//! One file over an unreliable network: whatever has arrived stays, and the rest is asked for.
//!
//! The partial file's length is the whole state. It is never longer than what the server has sent
//! for exactly this content (its name is the content's id), so appending the missing range is right
//! in the same process, in the next one, and in one on another day.

use std::fs::{self, File};
use std::io::Write;
use std::path::Path;
use std::time::Duration;

use indicatif::ProgressBar;
use tokio::time::timeout;

use super::cache::in_parent;
use super::client::{Client, Failure};
use super::error::{Asked, HubError, chain, is_refusal};
use super::repository::RemoteFile;

/// Attempts in a row that get no further than those before, after which a download is broken.
const FRUITLESS_ATTEMPTS: u32 = 3;

/// A connection without a byte for so long counts as broken.
const SILENCE: Duration = Duration::from_secs(60);

fn silent() -> String {
    format!("nothing came for {} s", SILENCE.as_secs())
}

/// The download of one file into its partial file.
#[derive(Debug)]
pub(super) struct Transfer<'a> {
    pub(super) client: &'a Client,
    pub(super) file: &'a RemoteFile,
    pub(super) commit: &'a str,
    pub(super) partial: &'a Path,
    pub(super) asked: Asked<'a>,
}

impl Transfer<'_> {
    /// Returns once the partial file is whole and on disk.
    pub(super) async fn run(&self, progress: &ProgressBar) -> Result<(), HubError> {
        let mut have = self.keep_usable_part()?;
        progress.inc(have);
        let (mut furthest, mut fruitless) = (have, 0);
        while have < self.file.size {
            let outcome = self.append(&mut have, progress).await?;
            fruitless = if have > furthest { 0 } else { fruitless + 1 };
            furthest = furthest.max(have);
            if let Err(reason) = outcome
                && fruitless >= FRUITLESS_ATTEMPTS
            {
                let (file, size) = (self.file.name.clone(), self.file.size);
                return Err(HubError::Interrupted {
                    file,
                    have,
                    size,
                    reason,
                });
            }
        }
        Ok(())
    }

    /// Bytes that an earlier attempt left and that can be built upon.
    fn keep_usable_part(&self) -> Result<u64, HubError> {
        in_parent(self.partial, |path| {
            let part = File::options().create(true).append(true).open(path)?;
            let have = part.metadata()?.len();
            if have <= self.file.size {
                return Ok(have);
            }
            part.set_len(0)?;
            Ok(0)
        })
    }

    /// Asks for everything from `have` on and writes what comes; `have` follows. The outer error
    /// is the disk's and final; the inner one is the network's and worth another attempt.
    async fn append(
        &self,
        have: &mut u64,
        progress: &ProgressBar,
    ) -> Result<Result<(), String>, HubError> {
        let size = self.file.size;
        let file = self.file.name.as_str();
        let request = self
            .client
            .open(self.asked.name, self.commit, file, *have, size);
        let mut answer = match timeout(SILENCE, request).await {
            Ok(Ok(answer)) => answer,
            // The files of a gated repository are listed for all, and given to some.
            Ok(Err(error)) if is_refusal(&error) => return Err(self.asked.failed(&error)),
            Ok(Err(error)) => return Ok(Err(chain(&error))),
            Err(_) => return Ok(Err(silent())),
        };
        let length = answer.content_length();
        if *have > 0 && length != Some(size - *have) {
            // The server sends the whole file whatever was asked for: begin again, without a range.
            self.start_over(have, progress)?;
            return Ok(Err(format!(
                "asked for {} bytes, got {length:?}",
                size - *have
            )));
        }
        let mut part = in_parent(self.partial, |path| File::options().append(true).open(path))?;
        loop {
            let chunk = match timeout(SILENCE, answer.chunk()).await {
                Ok(Ok(None)) => break,
                Ok(Ok(Some(chunk))) => chunk,
                Ok(Err(error)) => return Ok(Err(chain(&Failure::Request(error)))),
                Err(_) => return Ok(Err(silent())),
            };
            if *have + chunk.len() as u64 > size {
                self.start_over(have, progress)?;
                return Ok(Err(format!("more than the listed {size} bytes arrived")));
            }
            in_parent(self.partial, |_| part.write_all(&chunk))?;
            *have += chunk.len() as u64;
            progress.inc(chunk.len() as u64);
        }
        in_parent(self.partial, |_| part.sync_all())?;
        Ok(if *have == size {
            Ok(())
        } else {
            Err("the connection ended early".to_string())
        })
    }

    fn start_over(&self, have: &mut u64, progress: &ProgressBar) -> Result<(), HubError> {
        in_parent(self.partial, |path| fs::write(path, []))?;
        progress.dec(*have);
        *have = 0;
        Ok(())
    }
}
