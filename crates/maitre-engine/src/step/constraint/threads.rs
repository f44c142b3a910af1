//! The threads that run constraints: a few, started when the first request asks for them.
//!
//! A constraint waits in the queue at most once, so the queue is no longer than the sequences that have one. A
//! constraint that does not come back keeps its thread; when all are kept, constrained requests wait for their deadlines
//! and the others go on.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use crate::step::constraint::mailbox::{Inbox, Mailbox};

/// Threads at most: masks are a few percent of a step's work, and the compute team has the cores.
const MOST_THREADS: usize = 4;

/// Runs constraints away from the step loop.
#[derive(Debug, Default)]
pub(crate) struct ConstraintThreads {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    queue: Mutex<Queue>,
    /// There is something to do.
    work: Condvar,
    /// Something has been answered.
    answered: Condvar,
}

#[derive(Debug, Default)]
struct Queue {
    waiting: VecDeque<Arc<Mailbox>>,
    threads: usize,
    idle: usize,
    is_closed: bool,
}

impl ConstraintThreads {
    /// Asks a constraint something; a thread answers when its turn comes.
    pub(crate) fn ask(&self, mailbox: &Arc<Mailbox>, ask: impl FnOnce(&mut Inbox)) {
        if !mailbox.ask(ask) {
            return;
        }
        let mut queue = self.shared.lock();
        queue.waiting.push_back(Arc::clone(mailbox));
        if queue.waiting.len() > queue.idle && queue.threads < MOST_THREADS {
            self.start_thread(&mut queue);
        }
        if queue.threads == 0 {
            queue.waiting.clear();
            drop(queue);
            mailbox.give_up("no thread could be started for the constraint; try again later");
            return;
        }
        drop(queue);
        self.shared.work.notify_one();
    }

    /// Waits until something is answered, for `patience` at most.
    pub(crate) fn wait_for_answer(&self, patience: Duration) {
        let queue = self.shared.lock();
        drop(self.shared.answered.wait_timeout(queue, patience));
    }

    fn start_thread(&self, queue: &mut Queue) {
        let shared = Arc::clone(&self.shared);
        let name = "maitre-constraint".to_owned();
        let started = thread::Builder::new()
            .name(name)
            .spawn(move || shared.run());
        match started {
            Ok(_) => queue.threads += 1,
            Err(error) => tracing::warn!(%error, "no thread for constraints"),
        }
    }
}

impl Drop for ConstraintThreads {
    /// Threads end with what they are at. They are not waited for: a constraint may take its time.
    fn drop(&mut self) {
        let mut queue = self.shared.lock();
        queue.is_closed = true;
        queue.waiting.clear();
        self.shared.work.notify_all();
    }
}

impl Shared {
    fn run(&self) {
        while let Some(mailbox) = self.next() {
            mailbox.work();
            drop(mailbox);
            // The step loop looks for an answer before it waits for one.
            drop(self.lock());
            self.answered.notify_all();
        }
    }

    fn next(&self) -> Option<Arc<Mailbox>> {
        let mut queue = self.lock();
        loop {
            if queue.is_closed {
                queue.threads -= 1;
                return None;
            }
            if let Some(mailbox) = queue.waiting.pop_front() {
                return Some(mailbox);
            }
            queue.idle += 1;
            let woken = self.work.wait(queue);
            queue = woken.unwrap_or_else(PoisonError::into_inner);
            queue.idle -= 1;
        }
    }

    /// Nothing that runs under the lock panics half way.
    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
