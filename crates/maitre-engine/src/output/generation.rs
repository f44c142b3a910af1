//! The receiving end of one request.

use std::pin::Pin;
use std::task::{Context, Poll};

use futures_core::Stream;

use crate::admission::front::Ticket;
use crate::output::unread::EventReceiver;
use crate::{EngineError, Event};

/// The answer(s) to one request, as a stream of [`Event`]s.
///
/// The stream ends after the last [`Event::Finished`], or after one `Err`.
///
/// # Cancel safety
///
/// Dropping a `Generation` cancels its request: its KV blocks are free again at the next step
/// boundary. Polling is cancel safe: no event is lost when a `next()` future is dropped.
#[derive(Debug)]
pub struct Generation {
    request_id: String,
    events: EventReceiver,
    /// Held while the request is in flight; its drop cancels whatever still runs.
    ticket: Option<Ticket>,
    unfinished: u32,
}

impl Generation {
    pub(crate) fn new(request_id: String, n: u32, events: EventReceiver, ticket: Ticket) -> Self {
        Self {
            request_id,
            events,
            ticket: Some(ticket),
            unfinished: n,
        }
    }

    /// The request's id: the caller's, or the one made up for it.
    #[must_use]
    pub fn request_id(&self) -> &str {
        &self.request_id
    }

    /// Waits for the next event; `None` after the end.
    ///
    /// # Errors
    ///
    /// The request's failure, once; afterwards `None`.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: a dropped future loses no event.
    pub async fn next(&mut self) -> Option<Result<Event, EngineError>> {
        std::future::poll_fn(|context| Pin::new(&mut *self).poll_next(context)).await
    }

    /// All answers are complete, or one failed: then its siblings are cancelled. True if the request was
    /// aborted before.
    fn end(&mut self, complete: bool) -> bool {
        let aborted = self
            .ticket
            .take()
            .is_some_and(|ticket| ticket.leave(complete));
        self.events.close();
        aborted
    }
}

impl Stream for Generation {
    type Item = Result<Event, EngineError>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.ticket.is_none() {
            return Poll::Ready(None);
        }
        let item = std::task::ready!(self.events.poll_recv(context));
        // The publisher never hangs up silently unless its thread has died.
        let mut item = item.unwrap_or(Err(EngineError::Stopped));
        match &item {
            Ok(Event::Finished(_)) => self.unfinished = self.unfinished.saturating_sub(1),
            Ok(_) => {}
            Err(_) => self.unfinished = 0,
        }
        // Whether an abort came first is decided here, so that it and the end agree.
        if self.unfinished == 0 && self.end(item.is_ok()) {
            item = Err(EngineError::Cancelled);
        }
        Poll::Ready(Some(item))
    }
}
