//! The threads that run constraints: a few, started when requests ask for them, and one of low priority for those that
//! take long.
//!
//! A constraint waits in the queue at most once, so the queue is no longer than the sequences that have one. A
//! constraint that does not come back keeps its thread; when all are kept, constrained requests wait for their deadlines
//! and the others go on.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use crate::request::offload::lower_priority;
use crate::step::constraint::mailbox::{Inbox, Mailbox};

/// Threads at most: masks are a few percent of a step's work, and the compute team has the cores.
const MOST_THREADS: usize = 4;
/// Threads of the constraints that take long, and how far their priority lies below the usual one (`nice`): a thread at
/// 10 gets a tenth of a core that others want. So a grammar that is dear to follow makes its own answer late, and no
/// other.
const MOST_SLOW_THREADS: usize = 1;
const SLOW_NICENESS: i32 = 10;
/// A thread without work ends after this time.
const IDLE: Duration = Duration::from_secs(2);

/// Runs constraints away from the step loop.
#[derive(Debug, Default)]
pub(crate) struct ConstraintThreads {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    lanes: Mutex<Lanes>,
    /// There is something to do, by lane.
    work: [Condvar; 2],
    /// Something has been answered.
    answered: Condvar,
}

/// Which constraints a thread runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Speed {
    Usual,
    Slow,
}

impl Speed {
    fn of(mailbox: &Mailbox) -> Self {
        if mailbox.is_slow() {
            Self::Slow
        } else {
            Self::Usual
        }
    }

    fn most_threads(self) -> usize {
        match self {
            Self::Usual => MOST_THREADS,
            Self::Slow => MOST_SLOW_THREADS,
        }
    }
}

#[derive(Debug, Default)]
struct Lanes {
    queues: [Queue; 2],
    is_closed: bool,
}

#[derive(Debug, Default)]
struct Queue {
    waiting: VecDeque<Arc<Mailbox>>,
    threads: usize,
    idle: usize,
}

impl ConstraintThreads {
    /// Asks a constraint something; a thread answers when its turn comes.
    pub(crate) fn ask(&self, mailbox: &Arc<Mailbox>, ask: impl FnOnce(&mut Inbox)) {
        if mailbox.ask(ask) {
            self.shared.queue(mailbox);
        }
    }

    /// Waits until something is answered, for `patience` at most.
    pub(crate) fn wait_for_answer(&self, patience: Duration) {
        let lanes = self.shared.lock();
        drop(self.shared.answered.wait_timeout(lanes, patience));
    }
}

impl Drop for ConstraintThreads {
    /// Threads end with what they are at. They are not waited for: a constraint may take its time.
    fn drop(&mut self) {
        let mut lanes = self.shared.lock();
        lanes.is_closed = true;
        for queue in &mut lanes.queues {
            queue.waiting.clear();
        }
        for work in &self.shared.work {
            work.notify_all();
        }
    }
}

impl Shared {
    /// Gives a constraint with asks to the threads of its speed.
    fn queue(self: &Arc<Self>, mailbox: &Arc<Mailbox>) {
        let speed = Speed::of(mailbox);
        let mut lanes = self.lock();
        if lanes.is_closed {
            return;
        }
        let queue = &mut lanes.queues[speed as usize];
        queue.waiting.push_back(Arc::clone(mailbox));
        if queue.waiting.len() > queue.idle && queue.threads < speed.most_threads() {
            self.start_thread(speed, queue);
        }
        if queue.threads == 0 {
            queue.waiting.clear();
            drop(lanes);
            mailbox.give_up("no thread could be started for the constraint; try again later");
            return;
        }
        drop(lanes);
        self.work[speed as usize].notify_one();
    }

    fn start_thread(self: &Arc<Self>, speed: Speed, queue: &mut Queue) {
        let shared = Arc::clone(self);
        let name = "maitre-constraint".to_owned();
        let started = thread::Builder::new().name(name).spawn(move || {
            if speed == Speed::Slow {
                lower_priority(SLOW_NICENESS);
            }
            shared.run(speed);
        });
        match started {
            Ok(_) => queue.threads += 1,
            Err(error) => tracing::warn!(%error, "no thread for constraints"),
        }
    }

    fn run(self: &Arc<Self>, speed: Speed) {
        while let Some(mailbox) = self.next(speed) {
            // One that turns out to be of the other speed goes on there.
            if !mailbox.work(|mailbox| Speed::of(mailbox) == speed) {
                self.queue(&mailbox);
            }
            drop(mailbox);
            // The step loop looks for an answer before it waits for one.
            drop(self.lock());
            self.answered.notify_all();
        }
    }

    fn next(&self, speed: Speed) -> Option<Arc<Mailbox>> {
        let mut lanes = self.lock();
        let mut has_waited = false;
        loop {
            let is_closed = lanes.is_closed;
            let queue = &mut lanes.queues[speed as usize];
            if let Some(mailbox) = queue.waiting.pop_front() {
                return Some(mailbox);
            }
            if is_closed || has_waited {
                queue.threads -= 1;
                return None;
            }
            queue.idle += 1;
            let woken = self.work[speed as usize].wait_timeout(lanes, IDLE);
            let (woken, timeout) = woken.unwrap_or_else(PoisonError::into_inner);
            has_waited = timeout.timed_out();
            lanes = woken;
            lanes.queues[speed as usize].idle -= 1;
        }
    }

    /// Nothing that runs under the lock panics half way.
    fn lock(&self) -> MutexGuard<'_, Lanes> {
        self.lanes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
#[cfg(target_os = "linux")]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Instant;

    use maitre_sampling::{Constraint, ConstraintSource, TokenMask};
    use rustix::process::getpriority_process;

    use super::*;
    use crate::request::constraint::ConstraintHandle;
    use crate::step::constraint::mailbox::Ask;

    /// Takes so many milliseconds of processor time for each of its first answers, and notes the priority it has.
    #[derive(Debug, Clone)]
    struct Laborious {
        slow_answers: usize,
        niceness: Arc<Mutex<Vec<i32>>>,
        answers: Arc<AtomicUsize>,
    }

    impl ConstraintSource for Laborious {
        fn start(&self) -> Box<dyn Constraint> {
            Box::new(self.clone())
        }
    }

    impl Constraint for Laborious {
        fn masks(&mut self, _drafts: &[u32], _masks: &mut [TokenMask]) {
            let niceness = getpriority_process(None).unwrap();
            self.niceness.lock().unwrap().push(niceness);
            if self.answers.fetch_add(1, Ordering::SeqCst) < self.slow_answers {
                // Processor time is what counts, so that of this thread is spent.
                let began = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
                let began = Duration::try_from(began).unwrap();
                let spent = || {
                    let now = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
                    Duration::try_from(now).unwrap() - began
                };
                while spent() < Duration::from_millis(9) {
                    std::hint::spin_loop();
                }
            }
        }

        fn advance(&mut self, _tokens: &[u32]) {}

        fn forced(&self) -> Vec<u32> {
            Vec::new()
        }

        fn is_complete(&self) -> bool {
            false
        }
    }

    #[test]
    fn a_constraint_that_takes_long_goes_on_at_a_lower_priority_until_it_is_quick_again() {
        let source = Laborious {
            slow_answers: 3,
            niceness: Arc::default(),
            answers: Arc::default(),
        };
        let niceness = Arc::clone(&source.niceness);
        let threads = ConstraintThreads::default();
        let mailbox = Arc::new(Mailbox::new(ConstraintHandle::new(source), 8));
        let usual = getpriority_process(None).unwrap();
        let patience = Instant::now() + Duration::from_secs(60);
        for _ in 0..40 {
            threads.ask(&mailbox, |inbox| inbox.ask_next(Ask::default()));
            while mailbox.take_answers().0.is_none() {
                assert!(Instant::now() < patience, "no answer came");
                threads.wait_for_answer(Duration::from_millis(1));
            }
        }
        let niceness: Vec<i32> = niceness
            .lock()
            .unwrap()
            .iter()
            .map(|it| it - usual)
            .collect();
        assert_eq!(
            niceness[..3],
            [0, SLOW_NICENESS, SLOW_NICENESS],
            "{niceness:?}"
        );
        assert_eq!(niceness.last(), Some(&0), "{niceness:?}");
    }
}
