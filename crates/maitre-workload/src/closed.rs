//! A closed loop: each user reads the answer, thinks, and only then sends the next request.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use crate::open::seconds;
use crate::{Arrivals, Lengths, Random, Request, SettingError, Time};

/// How long a user thinks before a request, the first one included.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum ThinkTime {
    /// Always as long.
    Fixed(Time),
    /// Exponentially distributed with this mean.
    Exponential(Time),
}

impl ThinkTime {
    pub(crate) fn draw(self, random: &mut Random) -> Time {
        match self {
            Self::Fixed(time) => time,
            Self::Exponential(mean) => seconds(mean.as_secs_f64() * random.exponential()),
        }
    }
}

/// Users who each wait for an answer before they ask again.
#[derive(Debug, Clone)]
pub struct ClosedLoop {
    lengths: Lengths,
    think: ThinkTime,
    requests: u64,
    seed: u64,
    made: u64,
    /// Times to think that were drawn, of all users.
    thoughts: u64,
    /// When users send their next requests.
    due: BinaryHeap<Reverse<(Time, u32)>>,
}

impl ClosedLoop {
    /// `users` who send so many `requests` together.
    ///
    /// # Errors
    ///
    /// [`SettingError`].
    pub fn new(
        users: u32,
        think: ThinkTime,
        lengths: Lengths,
        requests: u64,
        seed: u64,
    ) -> Result<Self, SettingError> {
        lengths.validate()?;
        if users == 0 {
            return Err(SettingError::new(
                "the number of users",
                users,
                "at least 1",
            ));
        }
        let mut closed = Self {
            lengths,
            think,
            requests,
            seed,
            made: 0,
            thoughts: 0,
            due: BinaryHeap::with_capacity(users as usize),
        };
        (0..users).for_each(|user| closed.ended(user, Time::ZERO));
        Ok(closed)
    }
}

impl Arrivals for ClosedLoop {
    fn shares_prefixes(&self) -> bool {
        false
    }

    fn next_at(&mut self) -> Option<Time> {
        let left = self.made < self.requests;
        self.due.peek().filter(|_| left).map(|due| due.0.0)
    }

    fn take(&mut self) -> Option<Request> {
        self.next_at()?;
        let Reverse((arrival, user)) = self.due.pop()?;
        let number = self.made;
        self.made += 1;
        let (prompt_tokens, output_tokens) = self.lengths.of(self.seed, number);
        Some(Request {
            number,
            arrival,
            prompt_tokens,
            output_tokens,
            prefix: None,
            session: Some(u64::from(user)),
            user: Some(user),
        })
    }

    fn ended(&mut self, user: u32, at: Time) {
        let mut random = Random::new(self.seed ^ 0x7468_696e_6b21_2121, self.thoughts);
        self.thoughts += 1;
        let next = at.saturating_add(self.think.draw(&mut random));
        self.due.push(Reverse((next, user)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Length;

    #[test]
    fn a_user_asks_again_only_after_the_answer_and_a_time_to_think() {
        let lengths = Lengths::Independent {
            prompt: Length::Fixed(8),
            output: Length::Fixed(2),
        };
        let think = ThinkTime::Fixed(Time::from_secs(2));
        let mut closed = ClosedLoop::new(2, think, lengths.clone(), 3, 0).unwrap();
        let first = closed.take().unwrap();
        assert_eq!((first.arrival, first.user), (Time::from_secs(2), Some(0)));
        assert_eq!(closed.take().unwrap().user, Some(1));
        assert_eq!(closed.next_at(), None, "both wait for their answers");
        closed.ended(1, Time::from_secs(5));
        assert_eq!(closed.next_at(), Some(Time::from_secs(7)));
        assert_eq!(closed.take().unwrap().session, Some(1));
        closed.ended(0, Time::from_secs(9));
        assert_eq!(closed.take(), None, "all requests are made");
        assert!(ClosedLoop::new(0, think, lengths, 1, 0).is_err());
    }
}
