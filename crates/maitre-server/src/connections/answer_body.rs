//! An answer's body on its way out: observed, in small pieces, charged until they are written, and ended at the call's
//! deadline.
//!
//! A piece knows when it has been written: it is dropped then. The status follows only when all pieces are written,
//! because the library forgets a call once it has its status, and nothing could end it any more. So a call whose
//! client does not read stays a call in progress, and ends as one.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use axum::body::Bytes;
use axum::http::HeaderMap;
use hyper::body::{Body as HttpBody, Frame, SizeHint};
use maitre_engine::byte_budget::{ByteAccount, ByteCharge};
use tokio::time::{Sleep, sleep_until};

use crate::service::api_error::ApiError;
use crate::service::call_control::CallControl;
use crate::service::deadline::Deadline;
use crate::service::limits::ANSWER_PIECE_BYTES;

/// How a protocol ends an answer. It lives as long as the answer's body.
pub(crate) trait AnswerEnd: Unpin {
    /// The answer ends by itself, with these trailers.
    fn ends(&mut self, trailers: &HeaderMap);
    /// The last frame of an answer that ends in this error instead; `None` = it just ends.
    fn fails(&mut self, error: ApiError) -> Option<Frame<Bytes>>;
}

/// The body.
#[derive(Debug)]
pub(crate) struct AnswerBody<B, E> {
    /// Gone once it has ended or been ended.
    inner: Option<B>,
    /// What came of it last and is not yet handed over.
    rest: Option<(Bytes, ByteCharge)>,
    /// Whether a part of that is handed over, so that the remainder must follow.
    is_cut: bool,
    /// What follows when all pieces are written.
    last: Option<Frame<Bytes>>,
    deadline: Option<Pin<Box<Sleep>>>,
    account: ByteAccount,
    control: Arc<CallControl>,
    end: E,
}

/// A piece of an answer, until it is written.
struct Piece {
    bytes: Bytes,
    control: Arc<CallControl>,
    _charge: ByteCharge,
}

impl AsRef<[u8]> for Piece {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Piece {
    fn drop(&mut self) {
        self.control.written();
    }
}

impl<B: HttpBody<Data = Bytes>, E: AnswerEnd> AnswerBody<B, E> {
    /// What is handed over is charged to `account` and known to `control`.
    pub(crate) fn new(
        inner: B,
        deadline: Option<Deadline>,
        account: ByteAccount,
        control: Arc<CallControl>,
        end: E,
    ) -> Self {
        Self {
            inner: Some(inner),
            rest: None,
            is_cut: false,
            last: None,
            deadline: deadline.map(|Deadline(at)| Box::pin(sleep_until(at))),
            account,
            control,
            end,
        }
    }

    /// The next piece of what came last.
    fn piece(&mut self) -> Option<Bytes> {
        let (bytes, charge) = self.rest.as_mut()?;
        let piece = bytes.split_to(bytes.len().min(ANSWER_PIECE_BYTES));
        let charge = charge.split(u64::try_from(piece.len()).unwrap_or(u64::MAX));
        self.is_cut = !bytes.is_empty();
        if bytes.is_empty() {
            self.rest = None;
        }
        self.control.handed_over();
        Some(Bytes::from_owner(Piece {
            bytes: piece,
            control: Arc::clone(&self.control),
            _charge: charge,
        }))
    }

    /// Whether the deadline has passed, and can be told: half a message can't be followed by a status.
    fn is_late(&mut self, context: &mut Context<'_>) -> bool {
        !self.is_cut
            && self.inner.is_some()
            && self
                .deadline
                .as_mut()
                .is_some_and(|deadline| deadline.as_mut().poll(context).is_ready())
    }

    /// The answer is over, with this error instead of what it would have said.
    fn end_with(&mut self, error: ApiError) {
        self.inner = None;
        self.rest = None;
        self.last = self.end.fails(error);
    }

    fn keep(&mut self, data: Bytes) {
        match self
            .account
            .charge(u64::try_from(data.len()).unwrap_or(u64::MAX))
        {
            Ok(charge) => self.rest = Some((data, charge)),
            Err(spent) => self.end_with(ApiError::answer_bytes_spent(&spent)),
        }
    }
}

impl<B, E> HttpBody for AnswerBody<B, E>
where
    B: HttpBody<Data = Bytes> + Unpin,
    E: AnswerEnd,
{
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        let me = &mut *self;
        loop {
            if me.is_late(context) {
                me.end_with(ApiError::deadline_exceeded());
            }
            if let Some(piece) = me.piece() {
                return Poll::Ready(Some(Ok(Frame::data(piece))));
            }
            let Some(inner) = &mut me.inner else {
                if !me.control.is_flushed(context.waker()) {
                    return Poll::Pending;
                }
                return Poll::Ready(me.last.take().map(Ok));
            };
            match ready!(Pin::new(inner).poll_frame(context)) {
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) if data.is_empty() => {}
                    Ok(data) => me.keep(data),
                    Err(frame) => {
                        if let Some(trailers) = frame.trailers_ref() {
                            me.end.ends(trailers);
                            me.last = Some(frame);
                        }
                        me.inner = None;
                    }
                },
                Some(Err(error)) => {
                    me.inner = None;
                    return Poll::Ready(Some(Err(error)));
                }
                None => me.inner = None,
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        let is_over = self.inner.as_ref().is_none_or(HttpBody::is_end_stream);
        // What is unwritten keeps the library from forgetting the call.
        is_over && self.rest.is_none() && self.last.is_none() && self.control.is_written()
    }

    fn size_hint(&self) -> SizeHint {
        match &self.inner {
            Some(inner) if self.rest.is_none() => inner.size_hint(),
            _ => SizeHint::default(),
        }
    }
}
