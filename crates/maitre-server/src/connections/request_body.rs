//! A request's body on its way in: its bytes are charged to the budget that all clients share, and it has to be
//! complete in time.

use std::error::Error;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, PoisonError};
use std::task::{Context, Poll};

use axum::body::Bytes;
use hyper::body::{Body as HttpBody, Frame, SizeHint};
use tokio::time::{Instant, Sleep, sleep_until};

use crate::service::admission::{CallRecord, SharedSlot};
use crate::service::api_error::ApiError;
use crate::service::call_control::CallControl;
use crate::service::limits::MAX_STREAMED_REQUEST_BYTES;
use crate::service::request_bytes::RequestBytes;

/// What a body gives its reader instead of more.
type Refused = Box<dyn Error + Send + Sync>;

/// The body.
#[derive(Debug)]
pub(crate) struct RequestBody<B> {
    inner: B,
    bytes: RequestBytes,
    control: Arc<CallControl>,
    place: SharedSlot,
    due: Due,
    /// The error that the protocol's own code recognizes.
    refused: fn(ApiError) -> Refused,
}

/// Until when a request has to be complete, or how much of it may come.
#[derive(Debug)]
enum Due {
    /// One message.
    By(Pin<Box<Sleep>>),
    /// A stream of messages.
    Within(u64),
    /// It is complete, or has been refused.
    Done,
}

impl<B> RequestBody<B> {
    /// The body of the call of `record`: of one message, complete at `due`; without that, of a stream of messages.
    pub(crate) fn new(
        inner: B,
        bytes: RequestBytes,
        record: &CallRecord,
        due: Option<Instant>,
        refused: fn(ApiError) -> Refused,
    ) -> Self {
        Self {
            inner,
            bytes,
            control: Arc::clone(&record.control),
            place: Arc::clone(&record.place),
            due: match due {
                Some(due) => Due::By(Box::pin(sleep_until(due))),
                None => Due::Within(MAX_STREAMED_REQUEST_BYTES),
            },
            refused,
        }
    }

    /// Whether the request has come too late, or has to make way.
    fn is_refused(&mut self, context: &mut Context<'_>) -> Option<ApiError> {
        let Due::By(due) = &mut self.due else {
            return None;
        };
        if self.control.is_displaced(context.waker()) {
            return Some(ApiError::displaced());
        }
        due.as_mut()
            .poll(context)
            .is_ready()
            .then(ApiError::request_timeout)
    }

    fn charge(&mut self, bytes: usize) -> Result<(), ApiError> {
        let taken = self.bytes.grow(u64::try_from(bytes).unwrap_or(u64::MAX))?;
        match self.due {
            Due::Within(most) if taken > most => Err(ApiError::stream_too_long(most)),
            _ => Ok(()),
        }
    }

    fn received(&mut self) {
        self.due = Due::Done;
        let mut place = self.place.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(place) = place.as_mut() {
            place.received();
        }
    }
}

impl<B> HttpBody for RequestBody<B>
where
    B: HttpBody<Data = Bytes> + Unpin,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    type Data = Bytes;
    type Error = Refused;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let me = &mut *self;
        if let Some(refusal) = me.is_refused(context) {
            me.due = Due::Done;
            return Poll::Ready(Some(Err((me.refused)(refusal))));
        }
        let frame = std::task::ready!(Pin::new(&mut me.inner).poll_frame(context));
        let frame = match frame {
            Some(Ok(frame)) => frame,
            Some(Err(error)) => return Poll::Ready(Some(Err(error.into()))),
            None => {
                me.received();
                return Poll::Ready(None);
            }
        };
        if let Some(data) = frame.data_ref()
            && let Err(refusal) = me.charge(data.len())
        {
            me.due = Due::Done;
            return Poll::Ready(Some(Err((me.refused)(refusal))));
        }
        if frame.is_trailers() || me.inner.is_end_stream() {
            me.received();
        }
        Poll::Ready(Some(Ok(frame)))
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}
