//! An answer: what a replica tells of it, and its times.

use maitre_workload::{Slo, Time};

/// A request that was answered to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Answered {
    /// Which request.
    pub number: u64,
    /// The replica that answered it, counted from 0.
    pub replica: usize,
    /// The user who sent it, in a closed loop.
    pub user: Option<u32>,
    /// When it came.
    pub arrival: Time,
    /// When its first step began to run, or was planned behind another.
    pub started: Time,
    /// When its first token came.
    pub first_token: Time,
    /// When its last token came.
    pub ended: Time,
    /// Tokens of its prompt.
    pub prompt_tokens: u32,
    /// Of them, tokens that the prefix cache had at its first admission.
    pub cached_tokens: u32,
    /// Tokens of its answer.
    pub output_tokens: u32,
}

impl Answered {
    /// Time to first token, from the arrival.
    #[must_use]
    pub fn ttft(&self) -> Time {
        self.first_token.saturating_sub(self.arrival)
    }

    /// Time per output token: the mean time between two tokens; `None` of an answer of one.
    #[must_use]
    pub fn tpot(&self) -> Option<Time> {
        let generating = self.ended.saturating_sub(self.first_token);
        let later = self.output_tokens.checked_sub(1).filter(|&later| later > 0);
        later.map(|later| generating / later)
    }

    /// From the arrival to the last token.
    #[must_use]
    pub fn e2e(&self) -> Time {
        self.ended.saturating_sub(self.arrival)
    }

    /// Whether it keeps to all bounds.
    #[must_use]
    pub fn keeps_to(&self, slo: &Slo) -> bool {
        slo.is_met_by(self.ttft(), self.tpot(), self.e2e())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_count_from_the_arrival() {
        let ms = Time::from_millis;
        let answered = Answered {
            number: 0,
            replica: 0,
            user: None,
            arrival: ms(100),
            started: ms(150),
            first_token: ms(300),
            ended: ms(360),
            prompt_tokens: 5,
            cached_tokens: 0,
            output_tokens: 4,
        };
        assert_eq!(
            (answered.ttft(), answered.tpot(), answered.e2e()),
            (ms(200), Some(ms(20)), ms(260))
        );
        assert!(answered.keeps_to(&"ttft=200ms,tpot=20ms".parse().unwrap()));
        assert!(!answered.keeps_to(&"e2e=259ms".parse().unwrap()));
        let single = Answered {
            output_tokens: 1,
            ..answered
        };
        assert_eq!(single.tpot(), None);
    }
}
