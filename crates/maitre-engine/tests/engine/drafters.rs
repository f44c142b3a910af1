//! Drafters that fail, panic or lie: requests get the answers they get without one.

use maitre_model::CacheMoves;
use maitre_speculative::{Acceptance, DraftError, DraftRequest, Drafted, Drafter, Drafting};

use crate::toy::{Answer, EOS, Setup, answer, idle, tokens_request};

/// What it does in its rounds, counted from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Habit {
    /// Says the same token over and over.
    Repeats(u32),
    FailsEveryOther,
    AlwaysFails,
    Panics,
    /// Proposes more than it was asked for.
    Exceeds,
    /// Proposes a token that does not exist.
    Invents,
}

struct Odd {
    habit: Habit,
    round: usize,
}

impl Drafter for Odd {
    fn behind(&self, _request: &DraftRequest<'_>, _text: &[u32]) -> Option<usize> {
        Some(0)
    }

    fn draft(
        &mut self,
        draftings: &mut [&mut Drafting<'_>],
        _acceptance: Acceptance,
    ) -> Result<(), DraftError> {
        self.round += 1;
        let fails = match self.habit {
            Habit::Panics => panic!("injected panic"),
            Habit::AlwaysFails => true,
            Habit::FailsEveryOther => self.round.is_multiple_of(2),
            _ => false,
        };
        let (token, count) = match self.habit {
            Habit::Repeats(token) => (token, 1),
            Habit::Exceeds => (100, 9),
            Habit::Invents => (u32::MAX, 1),
            _ => (100, 1),
        };
        for drafting in draftings {
            for _ in 0..count {
                let drafted = Drafted {
                    token,
                    distribution: None,
                };
                drafting.push(drafted, 0.5);
            }
        }
        match fails {
            true => Err(DraftError {
                message: "injected".into(),
            }),
            false => Ok(()),
        }
    }

    fn moved(&mut self, _moves: &CacheMoves<'_>) -> Result<(), DraftError> {
        Ok(())
    }

    fn written(&mut self, _table: &[u32], _kept: usize, _end: usize) {}
}

/// Many requests in a pool so small that one is preempted.
async fn crowd(habit: Option<Habit>) -> Vec<Answer> {
    let setup = Setup {
        num_blocks: 70,
        ..Setup::default()
    };
    let (engine, gate) = match habit {
        None => setup.start(),
        Some(habit) => setup.start_with_drafter(Box::new(Odd { habit, round: 0 })),
    };
    gate.shut();
    let mut generations = Vec::new();
    for of in 0..9_u32 {
        let prompt: Vec<u32> = (0..5 + of % 7).map(|i| 100 + of * 13 + i).collect();
        let mut request = tokens_request(&prompt, 30);
        request.sampling.temperature = Some([0.0, 0.9][of as usize % 2]);
        request.sampling.seed = Some(u64::from(of));
        request.output.logprobs = Some(0);
        generations.push(engine.generate(request).await.unwrap());
    }
    gate.open();
    let mut answers = Vec::new();
    for generation in generations {
        answers.push(answer(generation).await.unwrap());
    }
    idle(&engine).await;
    assert!(engine.health().ready);
    answers
}

#[tokio::test]
async fn whatever_a_drafter_does_answers_are_what_they_are() {
    let expected = crowd(None).await;
    for habit in [
        Habit::Repeats(100),
        Habit::Repeats(EOS),
        Habit::FailsEveryOther,
        Habit::AlwaysFails,
        Habit::Panics,
        Habit::Exceeds,
        Habit::Invents,
    ] {
        let found = crowd(Some(habit)).await;
        for (found, expected) in found.iter().zip(&expected) {
            assert_eq!(found.token_ids, expected.token_ids, "{habit:?}");
            assert_eq!(found.logprobs, expected.logprobs, "{habit:?}");
            assert_eq!(found.reason, expected.reason, "{habit:?}");
        }
        let drafted: u32 = found.iter().map(|it| it.end.usage.drafted_tokens).sum();
        let never = matches!(habit, Habit::AlwaysFails | Habit::Panics | Habit::Invents);
        assert_eq!(drafted == 0, never, "{habit:?}: {drafted} drafted");
    }
}
