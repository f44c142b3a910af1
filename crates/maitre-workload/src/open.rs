//! Open loops: requests come whether or not earlier ones are answered.

use std::sync::Arc;

use crate::{
    ArrivalProcess, Arrivals, Lengths, Random, Request, SettingError, SharedPrefix, Time, Trace,
    mix,
};

/// Requests of an [`ArrivalProcess`], each with a prompt that no other begins like.
#[derive(Debug, Clone)]
pub struct OpenLoop {
    process: ArrivalProcess,
    lengths: Lengths,
    requests: u64,
    seed: u64,
    random: Random,
    made: u64,
    /// When the next one comes, in seconds: a sum of durations would round each of them. `None` behind the end of the process.
    next_seconds: Option<f64>,
}

impl OpenLoop {
    /// So many `requests`, or as many as come before the end of a process that has one.
    ///
    /// # Errors
    ///
    /// [`SettingError`].
    pub fn new(
        process: ArrivalProcess,
        lengths: Lengths,
        requests: u64,
        seed: u64,
    ) -> Result<Self, SettingError> {
        process.validate()?;
        lengths.validate()?;
        let mut random = Random::new(seed, 0);
        let next_seconds = process.next_after(0.0, &mut random);
        Ok(Self {
            process,
            lengths,
            requests,
            seed,
            random,
            made: 0,
            next_seconds,
        })
    }
}

impl Arrivals for OpenLoop {
    fn is_open(&self) -> bool {
        true
    }

    fn shares_prefixes(&self) -> bool {
        false
    }

    fn next_at(&mut self) -> Option<Time> {
        let left = self.made < self.requests;
        self.next_seconds.filter(|_| left).map(seconds)
    }

    fn take(&mut self) -> Option<Request> {
        let arrival = self.next_at()?;
        let number = self.made;
        let (prompt_tokens, output_tokens) = self.lengths.of(self.seed, number);
        self.made += 1;
        let at = self.next_seconds.unwrap_or_default();
        self.next_seconds = self.process.next_after(at, &mut self.random);
        Some(Request {
            number,
            arrival,
            prompt_tokens,
            output_tokens,
            prefix: None,
            session: None,
            user: None,
        })
    }
}

/// A trace played again, faster or slower, as often as is needed for so many requests. Each time it begins again its
/// prompts begin differently, so that a second round does not find the first in the prefix cache.
#[derive(Debug, Clone)]
pub struct Replay {
    rows: Arc<[Request]>,
    speed: f64,
    requests: u64,
    made: u64,
    /// From the first row of a round to the first row of the next, in seconds of the trace.
    round_seconds: f64,
}

impl Replay {
    /// The rows of a trace `speed` times as fast as they came; all of them once if the number of `requests` is not given.
    ///
    /// # Errors
    ///
    /// [`SettingError`] for a trace without rows or a speed that is not above 0.
    pub fn new(trace: &Trace, speed: f64, requests: Option<u64>) -> Result<Self, SettingError> {
        SettingError::check_positive("the speed of the trace", speed)?;
        let rows: Arc<[Request]> = trace.requests.as_slice().into();
        let Some(last) = rows.last() else {
            return Err(SettingError::new("the trace", "empty", "at least one row"));
        };
        // The next round follows after the mean time between two rows.
        let span = last.arrival.as_secs_f64();
        let gap = span / (rows.len() - 1).max(1) as f64;
        Ok(Self {
            speed,
            requests: requests.unwrap_or(rows.len() as u64),
            made: 0,
            round_seconds: span + gap,
            rows,
        })
    }

    fn row(&self) -> Option<(&Request, u64)> {
        let len = self.rows.len() as u64;
        let (round, index) = (self.made / len, self.made % len);
        Some((self.rows.get(index as usize)?, round))
    }
}

impl Arrivals for Replay {
    fn is_open(&self) -> bool {
        true
    }

    fn shares_prefixes(&self) -> bool {
        self.rows.iter().any(|row| row.prefix.is_some())
    }

    fn next_at(&mut self) -> Option<Time> {
        if self.made >= self.requests {
            return None;
        }
        let (row, round) = self.row()?;
        let at = row.arrival.as_secs_f64() + round as f64 * self.round_seconds;
        Some(seconds(at / self.speed))
    }

    fn take(&mut self) -> Option<Request> {
        let arrival = self.next_at()?;
        let (row, round) = self.row()?;
        let in_round = |prefix: &SharedPrefix| SharedPrefix {
            block_tokens: prefix.block_tokens,
            ids: match round {
                0 => Arc::clone(&prefix.ids),
                _ => prefix
                    .ids
                    .iter()
                    .map(|id| mix(id ^ (round << 32)))
                    .collect(),
            },
        };
        let request = Request {
            number: self.made,
            arrival,
            prefix: row.prefix.as_ref().map(in_round),
            ..row.clone()
        };
        self.made += 1;
        Some(request)
    }
}

/// A moment of the simulation; the largest there is for what lies behind all time.
pub(crate) fn seconds(seconds: f64) -> Time {
    Time::try_from_secs_f64(seconds).unwrap_or(Time::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trace_is_played_faster_and_again_with_other_beginnings() {
        let text = "{\"timestamp\": 0, \"input_length\": 600, \"output_length\": 1, \"hash_ids\": [5, 6]}\n\
                    {\"timestamp\": 1000, \"input_length\": 600, \"output_length\": 1, \"hash_ids\": [5, 7]}\n";
        let trace = Trace::read(text.as_bytes(), None, crate::BadLines::Refuse).unwrap();
        let mut replay = Replay::new(&trace, 2.0, Some(4)).unwrap();
        let requests: Vec<Request> = std::iter::from_fn(|| replay.take()).collect();
        let at: Vec<u128> = requests.iter().map(|it| it.arrival.as_millis()).collect();
        assert_eq!(at, [0, 500, 1000, 1500]);
        let ids = |index: usize| requests[index].prefix.as_ref().unwrap().ids.to_vec();
        assert_eq!((ids(0), ids(1)), (vec![5, 6], vec![5, 7]));
        assert!(ids(2)[0] == ids(3)[0] && ids(2)[0] != 5);
        assert!(Replay::new(&trace, 0.0, None).is_err());
    }
}
