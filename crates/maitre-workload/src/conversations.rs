//! Conversations of several turns: the prompt of a turn is all that was said before and a new message.
//!
//! A conversation is one growing text. Its prompts are beginnings of that text, so that each turn's prompt begins with
//! the prompt and the answer of the turn before, and a prefix cache finds them.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::sync::Arc;

use crate::open::seconds;
use crate::{
    ArrivalProcess, Arrivals, Length, Lengths, Random, Request, SettingError, SharedPrefix,
    ThinkTime, Time, mix,
};

/// Tokens of a block of a conversation's text.
const BLOCK_TOKENS: u32 = 16;

/// A message and the length of its answer, in tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Turn {
    /// What is added to the text before the answer.
    pub message_tokens: u32,
    /// The answer.
    pub answer_tokens: u32,
}

/// What is said in conversations.
#[derive(Debug, Clone)]
pub enum Turns {
    /// Drawn for each conversation, and for each of its turns.
    Drawn {
        /// How many turns a conversation has.
        count: Length,
        /// Messages and answers.
        lengths: Lengths,
    },
    /// Those of recorded conversations, each of which takes place once.
    Recorded(Arc<[Vec<Turn>]>),
}

/// When conversations begin.
#[derive(Debug, Clone)]
pub enum Starts {
    /// So many users, each of whom begins a new conversation after the last.
    Users(u32),
    /// Whenever a process lets a new user come.
    Arriving(ArrivalProcess),
}

/// Conversations, with time to think before each message but the first of a user who comes.
#[derive(Debug, Clone)]
pub struct Conversations {
    turns: Turns,
    think: ThinkTime,
    process: Option<ArrivalProcess>,
    requests: u64,
    seed: u64,
    random: Random,
    thoughts: u64,
    made: u64,
    begun: u64,
    next_start: Option<f64>,
    due: BinaryHeap<Reverse<(Time, u32)>>,
    users: BTreeMap<u32, Place>,
}

/// Where the conversation of a user is.
#[derive(Debug, Clone, Copy)]
struct Place {
    conversation: u64,
    /// Turns that were asked.
    asked: usize,
    /// Tokens of all that was said in them.
    said: u32,
}

impl Conversations {
    /// At most so many `requests` in all.
    ///
    /// # Errors
    ///
    /// [`SettingError`].
    pub fn new(
        starts: Starts,
        turns: Turns,
        think: ThinkTime,
        requests: u64,
        seed: u64,
    ) -> Result<Self, SettingError> {
        if let Turns::Drawn { lengths, .. } = &turns {
            lengths.validate()?;
        }
        let mut conversations = Self {
            turns,
            think,
            process: None,
            requests,
            seed,
            random: Random::new(seed, 0),
            thoughts: 0,
            made: 0,
            begun: 0,
            next_start: None,
            due: BinaryHeap::new(),
            users: BTreeMap::new(),
        };
        match starts {
            Starts::Users(0) => {
                return Err(SettingError::new("the number of users", 0, "at least 1"));
            }
            Starts::Users(users) => {
                (0..users).for_each(|user| conversations.begin(user, Time::ZERO))
            }
            Starts::Arriving(process) => {
                process.validate()?;
                conversations.next_start = process.next_after(0.0, &mut conversations.random);
                conversations.process = Some(process);
            }
        }
        Ok(conversations)
    }

    /// How many turns this conversation has; 0 behind the last recorded one.
    fn count(&self, conversation: u64) -> usize {
        match &self.turns {
            Turns::Drawn { count, .. } => {
                let mut random = Random::new(self.seed ^ 0x7475_726e_7321_2121, conversation);
                count.draw(&mut random) as usize
            }
            Turns::Recorded(recorded) => recorded.get(conversation as usize).map_or(0, Vec::len),
        }
    }

    fn turn(&self, place: Place) -> Option<Turn> {
        match &self.turns {
            Turns::Drawn { lengths, .. } => {
                let number = mix(place.conversation).wrapping_add(place.asked as u64);
                let (message_tokens, answer_tokens) = lengths.of(self.seed, number);
                Some(Turn {
                    message_tokens,
                    answer_tokens,
                })
            }
            Turns::Recorded(recorded) => recorded
                .get(place.conversation as usize)?
                .get(place.asked)
                .copied(),
        }
    }

    /// The next conversation is this user's, who thinks first.
    fn begin(&mut self, user: u32, at: Time) {
        let place = Place {
            conversation: self.begun,
            asked: 0,
            said: 0,
        };
        if self.count(place.conversation) > 0 {
            self.begun += 1;
            self.users.insert(user, place);
            self.think(user, at);
        }
    }

    fn think(&mut self, user: u32, at: Time) {
        let mut random = Random::new(self.seed ^ 0x7468_696e_6b21_2121, self.thoughts);
        self.thoughts += 1;
        let next = at.saturating_add(self.think.draw(&mut random));
        self.due.push(Reverse((next, user)));
    }

    /// When a new user comes, unless all recorded conversations have begun.
    fn next_start(&self) -> Option<Time> {
        let left = self.count(self.begun) > 0;
        self.next_start.filter(|_| left).map(seconds)
    }

    /// The user who asks next: one who has thought, or a new one.
    fn next_user(&mut self) -> Option<(Time, u32)> {
        let thought = self.due.peek().map(|due| due.0.0);
        match (thought, self.next_start()) {
            (Some(thought), start) if start.is_none_or(|start| thought <= start) => {
                self.due.pop().map(|due| due.0)
            }
            (_, start) => {
                let (start, user) = (start?, self.begun as u32);
                self.users.insert(
                    user,
                    Place {
                        conversation: self.begun,
                        asked: 0,
                        said: 0,
                    },
                );
                self.begun += 1;
                let at = self.next_start.unwrap_or_default();
                let process = self.process.as_ref();
                self.next_start = process.and_then(|it| it.next_after(at, &mut self.random));
                Some((start, user))
            }
        }
    }
}

impl Arrivals for Conversations {
    fn is_open(&self) -> bool {
        self.process.is_some()
    }

    fn next_at(&mut self) -> Option<Time> {
        let thought = self.due.peek().map(|due| due.0.0);
        let next = thought.into_iter().chain(self.next_start()).min();
        next.filter(|_| self.made < self.requests)
    }

    fn take(&mut self) -> Option<Request> {
        self.next_at()?;
        let (arrival, user) = self.next_user()?;
        let mut place = *self.users.get(&user)?;
        let turn = self.turn(place)?;
        let prompt_tokens = place.said.saturating_add(turn.message_tokens);
        let blocks = u64::from(prompt_tokens.div_ceil(BLOCK_TOKENS));
        let text = mix(self.seed ^ mix(place.conversation ^ 0x6368_6174_2121_2121));
        let ids = (0..blocks).map(|block| mix(text ^ block)).collect();
        let request = Request {
            number: self.made,
            arrival,
            prompt_tokens,
            output_tokens: turn.answer_tokens,
            prefix: Some(SharedPrefix {
                block_tokens: BLOCK_TOKENS,
                ids,
            }),
            session: Some(place.conversation),
            user: Some(user),
        };
        self.made += 1;
        place.asked += 1;
        place.said = prompt_tokens.saturating_add(turn.answer_tokens);
        self.users.insert(user, place);
        Some(request)
    }

    fn ended(&mut self, user: u32, at: Time) {
        let Some(&place) = self.users.get(&user) else {
            return;
        };
        if place.asked < self.count(place.conversation) {
            self.think(user, at);
            return;
        }
        self.users.remove(&user);
        if self.process.is_none() {
            self.begin(user, at);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drawn() -> Turns {
        Turns::Drawn {
            count: Length::Fixed(2),
            lengths: Lengths::Independent {
                prompt: Length::Fixed(20),
                output: Length::Fixed(5),
            },
        }
    }

    fn think() -> ThinkTime {
        ThinkTime::Fixed(Time::from_secs(2))
    }

    #[test]
    fn a_turn_begins_with_all_that_was_said() {
        let mut chats = Conversations::new(Starts::Users(1), drawn(), think(), 3, 0).unwrap();
        let first = chats.take().unwrap();
        assert_eq!(
            (first.arrival, first.prompt_tokens),
            (Time::from_secs(2), 20)
        );
        assert_eq!(chats.next_at(), None, "the user waits for the answer");
        chats.ended(0, Time::from_secs(5));
        let second = chats.take().unwrap();
        assert_eq!(
            (second.arrival, second.prompt_tokens),
            (Time::from_secs(7), 45)
        );
        let tokens = |request: &Request| request.random_tokens(100, 1);
        assert_eq!(tokens(&second)[..20], tokens(&first));
        chats.ended(0, Time::from_secs(9));
        let third = chats.take().unwrap();
        assert_eq!((third.session, third.prompt_tokens), (Some(1), 20));
        assert_ne!(tokens(&third), tokens(&first));
        chats.ended(0, Time::from_secs(11));
        assert_eq!(chats.next_at(), None, "all requests are made");
    }

    #[test]
    fn users_come_by_a_process_and_leave_after_their_conversation() {
        let starts = Starts::Arriving("constant:1".parse().unwrap());
        let mut chats = Conversations::new(starts, drawn(), think(), 100, 0).unwrap();
        assert!(chats.is_open());
        let first = chats.take().unwrap();
        assert_eq!((first.arrival, first.user), (Time::from_secs(1), Some(0)));
        chats.ended(0, Time::from_millis(1500));
        let next: Vec<_> = (0..3)
            .map(|_| chats.take().unwrap())
            .map(|it| (it.arrival, it.user))
            .collect();
        let ms = Time::from_millis;
        assert_eq!(
            next,
            [
                (ms(2000), Some(1)),
                (ms(3000), Some(2)),
                (ms(3500), Some(0))
            ]
        );
        chats.ended(0, ms(3600));
        assert_eq!(chats.next_at(), Some(ms(4000)), "the first user has left");
    }

    #[test]
    fn recorded_conversations_take_place_once() {
        let turn = |message_tokens, answer_tokens| Turn {
            message_tokens,
            answer_tokens,
        };
        let recorded: Arc<[Vec<Turn>]> = [vec![turn(7, 2), turn(3, 4)], vec![turn(5, 1)]].into();
        let starts = Starts::Users(1);
        let turns = Turns::Recorded(recorded);
        let mut chats = Conversations::new(starts, turns, think(), u64::MAX, 0).unwrap();
        let mut asked = Vec::new();
        while let Some(request) = chats.take() {
            asked.push((
                request.session,
                request.prompt_tokens,
                request.output_tokens,
            ));
            chats.ended(0, request.arrival);
        }
        assert_eq!(asked, [(Some(0), 7, 2), (Some(0), 12, 4), (Some(1), 5, 1)]);
        assert!(Conversations::new(Starts::Users(0), drawn(), think(), 1, 0).is_err());
    }
}
