//! Letting calls in, and knowing of each when and how it ended.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::time::Instant;

use crate::metrics::{self, Family};
use crate::service::Service;
use crate::service::api_error::{ApiError, Kind};
use crate::service::call::Client;
use crate::service::call_control::{CallControl, Cut};
use crate::service::call_pools::{CallSlot, Class};
use crate::service::outcome::Outcome;
use crate::service::request_bytes::RequestBytes;

/// A method of a protocol, as metrics and limits see it.
#[derive(Debug, Clone)]
pub(crate) struct Method {
    /// As metrics call it: one of a bounded number of names.
    pub(crate) name: Arc<str>,
    /// What it is counted as.
    pub(crate) family: &'static Family,
    /// What its calls are for.
    pub(crate) class: Class,
    /// Whether it needs an engine, as opposed to what answers from the beginning.
    pub(crate) needs_engine: bool,
}

/// The place of a call, which its request and its record share.
pub(crate) type SharedSlot = Arc<Mutex<Option<CallSlot>>>;

/// One call in progress; its drop is the call's end.
#[derive(Debug)]
pub(crate) struct CallRecord {
    method: Method,
    started: Instant,
    /// Cancelled until the call says otherwise: the caller went away.
    outcome: Outcome,
    pub(crate) control: Arc<CallControl>,
    client: Client,
    pub(crate) place: SharedSlot,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Service {
    /// Lets a call in: takes a place for it, which it has until the record is dropped.
    ///
    /// # Errors
    ///
    /// There is no engine yet, or no place, or its client has its share of the places.
    pub(crate) fn admit(&self, client: &Client, method: Method) -> Result<CallRecord, ApiError> {
        let class = method.class;
        let mut record = CallRecord {
            started: Instant::now(),
            outcome: Kind::Cancelled.into(),
            control: Arc::new(CallControl::new(self.limits().stall_timeout)),
            client: client.clone(),
            place: SharedSlot::default(),
            method,
        };
        if !class.stays() {
            client.connection.call_began();
        }
        match self.place(&record) {
            Ok(place) => {
                *lock(&record.place) = Some(place);
                if class.counts() {
                    metrics::call_began(record.method.family);
                }
                Ok(record)
            }
            Err(error) => {
                record.ends_as((&error).into());
                Err(error)
            }
        }
    }

    fn place(&self, record: &CallRecord) -> Result<CallSlot, ApiError> {
        let (client, class) = (&record.client, record.method.class);
        if client.connection.is_reserve && class != Class::Health {
            return Err(ApiError::too_many_connections(
                self.limits().max_connections,
            ));
        }
        if record.method.needs_engine {
            self.ready()?;
        }
        self.0
            .pools
            .enter(class, &client.share, &record.control)
            .map_err(|refusal| ApiError::refused_call(class, refusal))
    }

    /// Memory for the bytes of a request; none taken yet.
    ///
    /// # Errors
    ///
    /// All of it is taken.
    pub(crate) fn request_bytes(&self) -> Result<RequestBytes, ApiError> {
        RequestBytes::new(&self.0.request_bytes)
    }

    /// Places of `class` that are taken.
    #[cfg(test)]
    pub(crate) fn taken(&self, class: Class) -> usize {
        self.0.pools.taken(class)
    }
}

impl CallRecord {
    /// How the call ends, as far as is known now.
    pub(crate) fn ends_as(&mut self, outcome: Outcome) {
        self.outcome = outcome;
    }

    /// Its whole message is there.
    #[cfg(test)]
    pub(crate) fn received(&self) {
        if let Some(place) = lock(&self.place).as_mut() {
            place.received();
        }
    }

    /// Its answer is there. Where answers are short, another call may have its place before it is read.
    pub(crate) fn answered(&self) {
        if self.method.class.is_answered_at_once()
            && let Some(place) = lock(&self.place).as_mut()
        {
            place.answered();
        }
    }
}

impl Drop for CallRecord {
    fn drop(&mut self) {
        let (method, connection) = (&self.method, &self.client.connection);
        if lock(&self.place).take().is_some() && method.class.counts() {
            metrics::call_left(method.family);
        }
        if !method.class.stays() {
            connection.call_ended();
        }
        let outcome = match self.control.cut() {
            None => self.outcome,
            Some(Cut::Stalled | Cut::Displaced) => Kind::Full.into(),
            Some(Cut::Deadline) => Kind::DeadlineExceeded.into(),
        };
        connection.call_over(outcome.is_refusal());
        if let Some(cut) = self.control.cut() {
            metrics::call_cut(method.family, cut);
        }
        let took = self.started.elapsed();
        metrics::call_ended(method.family, &method.name, outcome, took);
    }
}
