//! How fast a client's HTTP/2 frames are read.
//!
//! A frame of a few bytes costs its sender nothing and the server a microsecond or several: SETTINGS, PING, PRIORITY,
//! WINDOW_UPDATE, DATA of one byte. What a client needs of them follows what it gets: it acknowledges and opens windows
//! for what the server writes. So each connection has credit for frames, which grows with time, with the calls that
//! are answered and with the bytes written to it; calls that are refused for lack of places or memory use it up. A client without credit is not refused anything: its frames are read
//! later, and its system stops sending.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::time::{Instant, Sleep, sleep_until};

use crate::service::registry::ConnectionState;

/// Credit that a connection begins with, and the most that it can save.
const BURST: f64 = 2048.0;
/// Frames a second that all connections that flood may send without being written to.
const FRAMES_PER_SECOND: f64 = 65_536.0;
/// The share of one connection among few that flood, and among very many.
const MOST_PER_CONNECTION: f64 = 1024.0;
const LEAST_PER_CONNECTION: f64 = 16.0;
/// Bytes written that earn credit for a frame: less than a token takes on its way out, more than the acknowledgement of
/// a SETTINGS or a PING frame.
const BYTES_THAT_EARN_ONE: f64 = 32.0;
/// Frames of a call that its answer pays for: headers, a message, windows, a PING to measure the way. A call that is
/// refused because its client asks for too much costs as much.
const FRAMES_OF_A_CALL: f64 = 8.0;
/// Bytes of headers that cost as much as a frame: they have to be decoded.
const HEADER_BYTES_THAT_COST_ONE: f64 = 512.0;
/// The same of data, which is copied and kept: 8 MiB a second, as much as the prompts of a million tokens.
const DATA_BYTES_THAT_COST_ONE: f64 = 8192.0;

/// Three bytes of length, one of type, one of flags, four of stream.
const FRAME_HEADER: usize = 9;
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const CONTINUATION: u8 = 9;

/// The credit of one connection, and where in a frame it is.
#[derive(Debug)]
pub(super) struct FramePace {
    state: Arc<ConnectionState>,
    credit: f64,
    as_of: Instant,
    /// Calls that were answered and that were refused, as far as they are counted in the credit.
    calls: (usize, usize),
    /// Whether it has used up half of what can be saved, and counts among those that flood.
    floods: bool,
    /// The header of the frame that is coming in, as far as it has come.
    header: [u8; FRAME_HEADER],
    known: usize,
    /// Bytes of its payload that are to come.
    payload: usize,
    pause: Option<Pin<Box<Sleep>>>,
}

impl FramePace {
    /// Of a connection whose next byte is the first of a frame.
    pub(super) fn new(state: Arc<ConnectionState>) -> Self {
        Self {
            credit: BURST,
            as_of: Instant::now(),
            calls: state.calls_over(),
            floods: false,
            state,
            header: [0; FRAME_HEADER],
            known: 0,
            payload: 0,
            pause: None,
        }
    }

    /// Charges the frames that begin in `bytes`, which have been read.
    pub(super) fn read(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            if self.payload > 0 {
                let passed = self.payload.min(bytes.len());
                self.payload -= passed;
                bytes = &bytes[passed..];
                continue;
            }
            let taken = bytes.len().min(FRAME_HEADER - self.known);
            let (header, rest) = bytes.split_at(taken);
            self.header[self.known..self.known + taken].copy_from_slice(header);
            self.known += taken;
            bytes = rest;
            if self.known == FRAME_HEADER {
                self.begin_frame();
            }
        }
        self.settle();
    }

    fn begin_frame(&mut self) {
        let [a, b, c, kind, ..] = self.header;
        self.known = 0;
        self.payload = usize::from(a) << 16 | usize::from(b) << 8 | usize::from(c);
        let bytes = self.payload as f64;
        self.credit -= 1.0
            + match kind {
                HEADERS | CONTINUATION => bytes / HEADER_BYTES_THAT_COST_ONE,
                DATA => bytes / DATA_BYTES_THAT_COST_ONE,
                _ => 0.0,
            };
    }

    /// Adds what time and answered calls have earned, and begins a pause if that is not enough.
    fn settle(&mut self) {
        let floods = self.state.floods.load(Ordering::Relaxed).max(1);
        let rate =
            (FRAMES_PER_SECOND / floods as f64).clamp(LEAST_PER_CONNECTION, MOST_PER_CONNECTION);
        let (now, calls) = (Instant::now(), self.state.calls_over());
        let answered = calls.0.wrapping_sub(self.calls.0) as f64;
        let refused = calls.1.wrapping_sub(self.calls.1) as f64;
        let earned = (now - self.as_of).as_secs_f64() * rate;
        let earned = earned + (answered - refused) * FRAMES_OF_A_CALL;
        self.credit = (self.credit + earned).min(BURST);
        (self.as_of, self.calls) = (now, calls);
        self.count_among_floods(self.credit < BURST / 2.0);
        if self.credit < 0.0 {
            let until = now + Duration::from_secs_f64(-self.credit / rate);
            self.pause = Some(Box::pin(sleep_until(until)));
            crate::metrics::frames_paced();
        }
    }

    fn count_among_floods(&mut self, floods: bool) {
        match (self.floods, floods) {
            (false, true) => self.state.floods.fetch_add(1, Ordering::Relaxed),
            (true, false) => self.state.floods.fetch_sub(1, Ordering::Relaxed),
            _ => 0,
        };
        self.floods = floods;
    }

    /// Credits what was written.
    pub(super) fn wrote(&mut self, bytes: usize) {
        self.credit = (self.credit + bytes as f64 / BYTES_THAT_EARN_ONE).min(BURST);
    }

    /// Ready when the connection may be read from.
    pub(super) fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<()> {
        if let Some(pause) = &mut self.pause {
            ready!(pause.as_mut().poll(context));
            self.pause = None;
        }
        Poll::Ready(())
    }
}

impl Drop for FramePace {
    fn drop(&mut self) {
        self.count_among_floods(false);
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use super::*;

    const PING: u8 = 6;

    fn frame(kind: u8, payload: usize) -> Vec<u8> {
        let [.., a, b, c] = payload.to_be_bytes();
        let mut frame = vec![a, b, c, kind, 0, 0, 0, 0, 0];
        frame.resize(FRAME_HEADER + payload, 0);
        frame
    }

    /// A pace on a listener where so many others flood.
    fn pace(others: usize) -> FramePace {
        let floods = Arc::new(others.into());
        FramePace::new(Arc::new(ConnectionState::new(false, floods)))
    }

    /// How long reading pauses now.
    async fn pause(pace: &mut FramePace) -> Duration {
        let began = Instant::now();
        poll_fn(|context| pace.poll_ready(context)).await;
        began.elapsed()
    }

    #[tokio::test(start_paused = true)]
    async fn frames_are_counted_however_they_are_cut() {
        let bytes = [frame(PING, 8), frame(8, 300), frame(DATA, 0)].concat();
        for piece in 1..=bytes.len() {
            let mut pace = pace(0);
            for piece in bytes.chunks(piece) {
                pace.read(piece);
            }
            assert_eq!(pace.credit, BURST - 3.0, "in pieces of {piece}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_flood_is_read_at_its_rate() {
        let mut pace = pace(0);
        let began = Instant::now();
        let flood = frame(PING, 8).repeat(512);
        for _ in 0..40 {
            pause(&mut pace).await;
            pace.read(&flood);
        }
        pause(&mut pace).await;
        let expected = (40.0 * 512.0 - BURST) / MOST_PER_CONNECTION;
        let took = began.elapsed().as_secs_f64();
        assert!((took - expected).abs() < 0.1, "{took} s, not {expected}");
    }

    #[tokio::test(start_paused = true)]
    async fn many_connections_share_a_rate() {
        for (others, rate) in [(0, 1024.0), (63, 1024.0), (512, 128.0), (100_000, 16.0)] {
            let mut pace = pace(others);
            pace.credit = 0.0;
            pace.read(&frame(PING, 8).repeat(160));
            let took = pause(&mut pace).await.as_secs_f64();
            assert!((took - 160.0 / rate).abs() < 0.01, "{others}: {took}");
        }
    }

    /// A client that opens a window for each token that it gets never waits.
    #[tokio::test(start_paused = true)]
    async fn what_is_written_pays_for_the_frames_that_answer_it() {
        let mut pace = pace(0);
        for _ in 0..100_000 {
            pace.wrote(40);
            pace.read(&frame(8, 4));
        }
        assert_eq!(pause(&mut pace).await, Duration::ZERO);
        // The acknowledgement of a PING does not pay for the PING.
        for _ in 0..10_000 {
            pace.wrote(17);
            pace.read(&frame(PING, 8));
        }
        assert!(pause(&mut pace).await > Duration::from_secs(1));
    }

    /// One call after the other, each measured with a PING and with a window opened, on a listener that others flood.
    #[tokio::test(start_paused = true)]
    async fn calls_pay_for_their_frames_and_silent_connections_take_no_share() {
        let mut pace = pace(4096);
        let header = frame(HEADERS, 200);
        for _ in 0..100_000 {
            pace.read(&[header.clone(), frame(0, 40), frame(PING, 8), frame(8, 4)].concat());
            pace.wrote(50);
            pace.state.call_over(false);
        }
        assert_eq!(pause(&mut pace).await, Duration::ZERO);
        assert_eq!(pace.state.floods.load(Ordering::Relaxed), 4096);
        pace.read(&frame(PING, 8).repeat(1500));
        assert_eq!(pace.state.floods.load(Ordering::Relaxed), 4097);
        let state = Arc::clone(&pace.state);
        drop(pace);
        assert_eq!(state.floods.load(Ordering::Relaxed), 4096);
    }

    #[tokio::test(start_paused = true)]
    async fn refused_calls_slow_their_client_down() {
        let mut pace = pace(0);
        let began = Instant::now();
        for _ in 0..2000 {
            pause(&mut pace).await;
            pace.read(&[frame(HEADERS, 0), frame(0, 0)].concat());
            pace.state.call_over(true);
        }
        let expected = (2000.0 * (2.0 + FRAMES_OF_A_CALL) - BURST) / MOST_PER_CONNECTION;
        let took = began.elapsed().as_secs_f64();
        assert!((took - expected).abs() < 0.1, "{took} s, not {expected}");
    }

    #[tokio::test(start_paused = true)]
    async fn headers_cost_by_their_length_and_data_less() {
        let mut pace = pace(0);
        pace.read(&frame(DATA, 16 << 10));
        assert_eq!(pace.credit, BURST - 3.0);
        pace.read(&frame(CONTINUATION, 16 << 10));
        assert_eq!(pace.credit, BURST - 36.0);
        // The largest message does not wait.
        pace.read(&frame(DATA, 16 << 10).repeat(256));
        assert_eq!(pause(&mut pace).await, Duration::ZERO);
    }
}
