//! The channel from the publisher to a request's receiver, bounded in events and in bytes.
//!
//! What a receiver leaves unread is memory that the engine holds for it, and one event may be large: the scores of a
//! long prompt take megabytes. So each event is charged to a budget that all requests share until it is read; see
//! [`ByteBudget`] for how it is divided.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use ::metrics::Histogram;
use maitre_sampling::MAX_LOGPROBS;
use maitre_scheduler::Time;
use tokio::sync::mpsc;

use crate::observe::metrics;
use crate::output::byte_budget::{ByteAccount, ByteBudget, ByteCharge};
use crate::request::limits::{MAX_N, MAX_UNREAD_EVENTS, MAX_UNREAD_EVENTS_OF_A_WAITING_RECEIVER};
use crate::{Clock, EngineError, Event, Violation};

/// When to come back after a refusal: unread events are read, or their requests ended, at any moment.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// An event on its way.
#[derive(Debug)]
struct Item {
    event: Result<Event, EngineError>,
    /// Given back when it is read.
    _charge: Option<ByteCharge>,
    /// When its token was committed.
    committed: Option<Time>,
}

/// The sending end; a request's sequences have one each.
#[derive(Debug, Clone)]
pub(crate) struct EventSender {
    events: mpsc::Sender<Item>,
    /// Written by the receiver: it has read all there was, and waits to be woken.
    waits: Arc<AtomicBool>,
    /// It fell behind while it waited, and has not caught up yet.
    excused: Arc<AtomicBool>,
    account: ByteAccount,
    /// For the scores of the prompt, which the step loop holds before they are sent.
    reserved: Option<Arc<Mutex<ByteCharge>>>,
}

/// The receiving end.
#[derive(Debug)]
pub(crate) struct EventReceiver {
    events: mpsc::Receiver<Item>,
    /// Whether the receiver has read all there was and been promised to be woken: if it then reads nothing, it
    /// is the machine that is slow.
    waits: Arc<AtomicBool>,
    /// Measures how long tokens are on their way.
    delivery: Option<Delivery>,
}

/// A clock, and where the times between the commit of a token and its reading go.
#[derive(Debug)]
struct Delivery {
    clock: Arc<dyn Clock>,
    seconds: Histogram,
}

/// Why an event was not sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NotSent {
    /// The receiver is gone.
    Gone,
    /// The receiver has left too much unread: so many events.
    Slow {
        /// How many.
        unread: usize,
    },
}

/// Memory for unread events where the operator does not say how much: the scores of five prompts of the longest
/// length, so that one is always possible, within bounds.
pub(crate) fn default_bytes(max_model_len: usize) -> u64 {
    const MIB: u64 = 1 << 20;
    let prompt = u64::try_from(max_model_len).unwrap_or(u64::MAX);
    let scores = prompt.saturating_mul(score_bytes(MAX_LOGPROBS));
    scores.saturating_mul(5).clamp(64 * MIB, 256 * MIB)
}

/// Memory for the scores at one position with `top` alternatives, about.
pub(crate) fn score_bytes(top: u32) -> u64 {
    // An entry and a token's text.
    64 * (u64::from(top) + 1)
}

/// A channel for one request whose events are charged to `budget`.
pub(crate) fn channel(budget: &ByteBudget) -> (EventSender, EventReceiver) {
    let (events, receiver) = mpsc::channel(MAX_UNREAD_EVENTS_OF_A_WAITING_RECEIVER);
    let waits = Arc::new(AtomicBool::new(false));
    let sender = EventSender {
        events,
        waits: Arc::clone(&waits),
        excused: Arc::default(),
        account: budget.account(),
        reserved: None,
    };
    let receiver = EventReceiver {
        events: receiver,
        waits,
        delivery: None,
    };
    (sender, receiver)
}

impl EventSender {
    /// Charges the scores of `n` prompts of `tokens` tokens with `top` alternatives each, before they are worked out.
    ///
    /// # Errors
    ///
    /// [`EngineError::Invalid`] if there will never be memory for them, [`EngineError::UnreadBytesFull`] if there is
    /// none now.
    pub(crate) fn reserve_scores(
        &mut self,
        n: u32,
        tokens: usize,
        top: u32,
    ) -> Result<(), EngineError> {
        let budget = self.account.budget();
        let positions = u64::try_from(tokens)
            .unwrap_or(u64::MAX)
            .saturating_mul(u64::from(n));
        let bytes = positions.saturating_mul(score_bytes(top));
        if bytes > budget.largest() {
            let description = format!(
                "{top} alternatives for {positions} positions take {bytes} bytes; this server holds at most {} for a request, so ask for fewer",
                budget.largest()
            );
            let violation = Violation::new("output.prompt_logprobs", description);
            return Err(EngineError::Invalid {
                violations: vec![violation],
            });
        }
        let charge = self
            .account
            .charge(bytes)
            .map_err(|spent| EngineError::UnreadBytesFull {
                needed: bytes,
                free: spent.free,
                retry_after: RETRY_AFTER,
            })?;
        self.reserved = Some(Arc::new(Mutex::new(charge)));
        Ok(())
    }

    fn charge(&self, event: &Event) -> Option<ByteCharge> {
        let bytes = event.size_in_bytes();
        match (event, &self.reserved) {
            (Event::PromptLogprobs(_), Some(reserved)) => {
                let mut reserved = reserved.lock().unwrap_or_else(PoisonError::into_inner);
                Some(reserved.split(bytes))
            }
            _ => self.account.charge(bytes).ok(),
        }
    }

    /// Sends an event, leaving one place free for [`send_last`](Self::send_last) of each sequence. `committed`: when the
    /// token was that it is the first news of.
    pub(crate) fn send(
        &self,
        event: Result<Event, EngineError>,
        committed: Option<Time>,
    ) -> Result<(), NotSent> {
        if self.events.is_closed() {
            return Err(NotSent::Gone);
        }
        let unread = self.events.max_capacity() - self.events.capacity();
        let slow = NotSent::Slow { unread };
        if self.are_too_many(unread) {
            return Err(slow);
        }
        let charge = match &event {
            Ok(event) => Some(self.charge(event).ok_or(slow)?),
            Err(_) => None,
        };
        let sent = self.events.try_send(Item {
            event,
            _charge: charge,
            committed,
        });
        sent.map_err(|_| NotSent::Gone)
    }

    /// Whether the receiver has left too many events unread. One that could read and does not is slow. One that
    /// was woken and has not run since is a victim of what else the machine does, until it has caught up.
    fn are_too_many(&self, unread: usize) -> bool {
        // `n` sequences share the channel, and each needs one place for its end.
        let ends = MAX_N as usize;
        let is_behind = unread >= MAX_UNREAD_EVENTS - ends;
        let excused =
            is_behind && (self.waits.load(Ordering::SeqCst) || self.excused.load(Ordering::SeqCst));
        self.excused.store(excused, Ordering::SeqCst);
        is_behind && (!excused || unread >= self.events.max_capacity() - ends)
    }

    /// Sends what ends a sequence; it is small, and not charged.
    pub(crate) fn send_last(&self, event: Result<Event, EngineError>) {
        // Fails only when the receiver is gone, which then does not need it.
        let _ = self.events.try_send(Item {
            event,
            _charge: None,
            committed: None,
        });
    }
}

impl EventReceiver {
    /// Has it measured, by the engine's clock, how long tokens are on their way.
    pub(crate) fn timed(mut self, clock: Arc<dyn Clock>) -> Self {
        self.delivery = Some(Delivery {
            clock,
            seconds: metrics::token_delivery(),
        });
        self
    }

    /// The next event, no longer charged; `None` when all senders are gone.
    pub(crate) fn poll_recv(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Event, EngineError>>> {
        // Said before the events are looked at: from then on a sender may find that it is waited for.
        self.waits.store(true, Ordering::SeqCst);
        let item = ready!(self.events.poll_recv(context));
        self.waits.store(false, Ordering::SeqCst);
        if let Some(delivery) = &self.delivery
            && let Some(committed) = item.as_ref().and_then(|item| item.committed)
        {
            let took = delivery.clock.now().saturating_sub(committed);
            delivery.seconds.record(took);
        }
        Poll::Ready(item.map(|item| item.event))
    }

    /// Lets the senders know that no more is wanted, and forgets what is unread.
    pub(crate) fn close(&mut self) {
        self.events.close();
        while self.events.try_recv().is_ok() {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Delta, LogprobEntry, PromptLogprobs, TokenLogprob};

    fn scores(tokens: usize) -> Event {
        let entry = LogprobEntry {
            token_id: 1,
            text: "token".into(),
            logprob: -1.0,
        };
        let row = TokenLogprob {
            token: entry.clone(),
            rank: 1,
            top: vec![entry; 20],
        };
        Event::PromptLogprobs(PromptLogprobs {
            index: 0,
            tokens: vec![row; tokens],
        })
    }

    #[test]
    fn events_are_charged_until_they_are_read() {
        let budget = ByteBudget::new(1 << 20);
        let (sender, mut receiver) = channel(&budget);
        sender.send(Ok(scores(50)), None).unwrap();
        let taken = budget.used();
        assert!(taken > 50 * 21 * 36, "{taken}");
        assert_eq!(
            sender.send(Ok(scores(1000)), None),
            Err(NotSent::Slow { unread: 1 })
        );
        assert_eq!(budget.used(), taken);
        sender
            .send(Ok(Event::Delta(Delta::default())), None)
            .unwrap();
        let mut context = Context::from_waker(std::task::Waker::noop());
        assert!(receiver.poll_recv(&mut context).is_ready());
        assert!(budget.used() < taken);
        // An end always finds its way.
        sender.send_last(Err(EngineError::Cancelled));
        receiver.close();
        assert_eq!(budget.used(), 0);
        let gone = sender.send(Ok(Event::Delta(Delta::default())), None);
        assert_eq!(gone, Err(NotSent::Gone));
    }

    #[test]
    fn scores_are_charged_before_they_are_worked_out() {
        let budget = ByteBudget::new(1 << 20);
        let (mut sender, mut receiver) = channel(&budget);
        let largest = budget.largest();
        let tokens = usize::try_from(largest / score_bytes(20)).unwrap();
        assert!(matches!(
            sender.reserve_scores(2, tokens, 20),
            Err(EngineError::Invalid { violations }) if violations[0].field == "output.prompt_logprobs"
        ));
        sender.reserve_scores(1, tokens, 20).unwrap();
        let reserved = budget.used();
        assert_eq!(reserved, tokens as u64 * score_bytes(20));
        let (mut second, _receiver) = channel(&budget);
        assert!(matches!(
            second.reserve_scores(1, tokens, 20),
            Err(EngineError::UnreadBytesFull { .. })
        ));
        sender.send(Ok(scores(tokens)), None).unwrap();
        assert_eq!(budget.used(), reserved, "they are charged once");
        let mut context = Context::from_waker(std::task::Waker::noop());
        assert!(receiver.poll_recv(&mut context).is_ready());
        drop((sender, receiver));
        assert_eq!(budget.used(), 0);
    }

    #[test]
    fn a_receiver_that_reads_is_served_beside_those_that_do_not() {
        let budget = ByteBudget::new(1 << 20);
        let unread: Vec<_> = (0..16).map(|_| channel(&budget)).collect();
        for (sender, _receiver) in &unread {
            while sender.send(Ok(scores(1)), None).is_ok() {}
        }
        let (sender, mut receiver) = channel(&budget);
        let mut context = Context::from_waker(std::task::Waker::noop());
        for _ in 0..10_000 {
            sender.send(Ok(scores(1)), None).unwrap();
            assert!(receiver.poll_recv(&mut context).is_ready());
        }
        drop(unread);
        assert_eq!(budget.used(), 0);
    }
}
