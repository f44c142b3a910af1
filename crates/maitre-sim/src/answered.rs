//! The times of an answer, from what a replica tells of it.

use maitre_workload::{Slo, Time};

use crate::Answered;

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
