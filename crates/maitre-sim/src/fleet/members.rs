//! What each replica of a fleet is about: starting, ready, about to stop, being repaired, or not there.
//!
//! A replica is paid for from the beginning of its start to its stop, whatever it does meanwhile.

use maitre_scheduler::Time;

/// What a replica is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    /// Not there.
    Off,
    /// Not ready yet.
    Starting,
    /// It takes requests.
    Ready,
    /// It takes no requests any more, and stops when it has answered those it has.
    Draining,
    /// It failed and is repaired.
    Down,
}

/// The number of replicas in each state that is paid for, from some moment on.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize)]
pub struct FleetSize {
    /// Seconds from the beginning of the simulation.
    pub at_s: f64,
    /// Replicas that take requests.
    pub ready: usize,
    /// Replicas that start.
    pub starting: usize,
    /// Replicas that finish what they have.
    pub draining: usize,
    /// Replicas that are repaired.
    pub down: usize,
}

impl FleetSize {
    /// All replicas that are paid for.
    #[must_use]
    pub fn paid(&self) -> usize {
        self.ready + self.starting + self.draining + self.down
    }
}

/// The replicas by their numbers.
#[derive(Debug)]
pub(super) struct Members {
    states: Vec<State>,
    /// Whether each takes requests.
    open: Vec<bool>,
    /// How often each began something else: what was planned for an earlier life does not happen.
    lives: Vec<u64>,
    /// The sizes of the fleet, each from its time on.
    pub(super) sizes: Vec<FleetSize>,
    /// When the number of replicas that there should be changed last.
    pub(super) last_scaled: Time,
}

impl Members {
    /// So many places, the first `ready` of which have a replica that is ready.
    pub(super) fn new(places: usize, ready: usize) -> Self {
        let mut members = Self {
            states: (0..places)
                .map(|it| if it < ready { State::Ready } else { State::Off })
                .collect(),
            open: (0..places).map(|it| it < ready).collect(),
            lives: vec![0; places],
            sizes: Vec::new(),
            last_scaled: Time::ZERO,
        };
        members.tell_size(Time::ZERO);
        members
    }

    pub(super) fn open(&self) -> &[bool] {
        &self.open
    }

    pub(super) fn state(&self, index: usize) -> State {
        self.states[index]
    }

    pub(super) fn life(&self, index: usize) -> u64 {
        self.lives[index]
    }

    pub(super) fn count(&self, state: State) -> usize {
        self.states.iter().filter(|&&it| it == state).count()
    }

    /// Those in a state, by their numbers.
    pub(super) fn all(&self, state: State) -> impl Iterator<Item = usize> {
        let states = self.states.iter().enumerate();
        states.filter_map(move |(index, &it)| (it == state).then_some(index))
    }

    /// A replica is something else from `now` on. Returns its new life.
    pub(super) fn become_(&mut self, index: usize, state: State, now: Time) -> u64 {
        let before = std::mem::replace(&mut self.states[index], state);
        self.open[index] = state == State::Ready;
        let works = |state| matches!(state, State::Ready | State::Draining);
        // One that is about to stop is still the same.
        self.lives[index] += u64::from(!(works(before) && works(state)));
        self.tell_size(now);
        self.lives[index]
    }

    fn tell_size(&mut self, now: Time) {
        let size = FleetSize {
            at_s: now.as_secs_f64(),
            ready: self.count(State::Ready),
            starting: self.count(State::Starting),
            draining: self.count(State::Draining),
            down: self.count(State::Down),
        };
        match self.sizes.last_mut().filter(|last| last.at_s >= size.at_s) {
            Some(last) => *last = size,
            None => self.sizes.push(size),
        }
    }
}

/// Seconds of replicas that `part` counts, between two moments.
pub(crate) fn replica_seconds(
    sizes: &[FleetSize],
    from_s: f64,
    to_s: f64,
    part: impl Fn(&FleetSize) -> usize,
) -> f64 {
    let ends = sizes
        .iter()
        .skip(1)
        .map(|next| next.at_s)
        .chain([f64::INFINITY]);
    let seconds = sizes.iter().zip(ends).map(|(size, end)| {
        let time = (end.min(to_s) - size.at_s.max(from_s)).max(0.0);
        part(size) as f64 * time
    });
    seconds.sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replicas_are_paid_from_their_start_to_their_stop() {
        let s = Time::from_secs;
        let mut members = Members::new(3, 1);
        members.become_(1, State::Starting, s(10));
        members.become_(1, State::Ready, s(40));
        members.become_(0, State::Draining, s(50));
        assert_eq!(
            (members.open(), members.life(1)),
            (&[false, true, false][..], 2)
        );
        members.become_(0, State::Off, s(60));
        members.become_(1, State::Down, s(80));
        let seconds = |from, to| replica_seconds(&members.sizes, from, to, FleetSize::paid);
        assert_eq!(seconds(0.0, 100.0), 60.0 + 90.0);
        assert_eq!(seconds(20.0, 55.0), 35.0 + 35.0);
        let down = replica_seconds(&members.sizes, 0.0, 100.0, |size| size.down);
        assert_eq!(
            (down, members.all(State::Off).collect::<Vec<_>>()),
            (20.0, vec![0, 2])
        );
    }
}
