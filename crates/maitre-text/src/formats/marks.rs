//! Follows what a description expects next: one of a few marks. White space in a mark stands for any white space.

/// What follows once a mark is complete.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Goal {
    /// The section of calls is open.
    Section,
    /// A call is open.
    Call,
    /// The id of a call follows.
    Id,
    /// The arguments follow.
    Arguments,
    /// The name of an argument follows.
    Key,
    /// The value of an argument follows, as JSON, as text, or as its schema says.
    Value(Written),
    /// The call is closed.
    Close,
    /// The section is closed.
    SectionClose,
    /// All is over.
    Over,
}

/// What a format says about a value that stands without quotes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Written {
    /// The tool's schema tells.
    Either,
    Text,
    Json,
}

/// A way to go on: two marks, one after the other, and where they lead.
#[derive(Debug, Clone, Copy)]
pub(super) struct Way {
    mark: &'static str,
    then: &'static str,
    goal: Goal,
    /// Bytes of the mark's first word that were read.
    read: usize,
}

impl Way {
    pub(super) fn new(mark: &'static str, goal: Goal) -> Self {
        Self::of_two(mark, "", goal)
    }

    pub(super) fn of_two(mark: &'static str, then: &'static str, goal: Goal) -> Self {
        let (mark, then) = match mark.trim() {
            "" => (then.trim(), ""),
            mark => (mark, then.trim()),
        };
        Self {
            mark,
            then,
            goal,
            read: 0,
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.mark.is_empty()
    }

    pub(super) fn goal(&self) -> Goal {
        self.goal
    }

    fn word(&self) -> &'static str {
        self.mark.split_whitespace().next().unwrap_or("")
    }

    /// The way after the word that was read, or nothing if it was the last.
    fn next(self) -> Option<Self> {
        let rest = self.mark.get(self.word().len()..).unwrap_or("");
        let way = Self::of_two(rest, self.then, self.goal);
        (!way.mark.is_empty()).then_some(way)
    }
}

/// What a character does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum MarkStep {
    /// It belongs to a mark, or to the white space before one.
    More,
    /// A word of a mark is complete, and another one has to follow.
    Word,
    /// A mark is complete.
    Reached(Goal),
    /// It was none of the marks from the first character on.
    Other(Goal),
    /// It is none of the marks.
    Wrong,
}

/// The marks that may follow.
#[derive(Debug, Clone)]
pub(super) struct Marks {
    ways: [Option<Way>; 2],
    /// Where it goes on if no mark starts here.
    otherwise: Option<Goal>,
    /// Whether no word is complete yet.
    first_word: bool,
    started: bool,
}

impl Marks {
    pub(super) fn new(ways: [Option<Way>; 2], otherwise: Option<Goal>) -> Self {
        let known = |way: Option<Way>| way.filter(|way| !way.mark.is_empty());
        Self {
            ways: ways.map(known),
            otherwise,
            first_word: true,
            started: false,
        }
    }

    /// Whether a word has begun: before, white space does not count.
    pub(super) fn is_started(&self) -> bool {
        self.started
    }

    /// How much of the way to `goal` was read.
    pub(super) fn progress(&self, goal: Goal) -> Progress {
        let way = self.ways.iter().flatten().find(|way| way.goal == goal);
        match way {
            Some(_) if !self.first_word => Progress::Word,
            Some(way) if way.read > 0 => Progress::Begun,
            Some(_) | None => Progress::None,
        }
    }

    /// Takes the next character.
    pub(super) fn step(&mut self, c: char) -> MarkStep {
        if !self.started && c.is_whitespace() {
            return MarkStep::More;
        }
        let mut complete = None;
        let mut any = false;
        let mut ways = self.ways;
        for slot in &mut ways {
            let Some(way) = slot else { continue };
            let rest = way.word().get(way.read..).unwrap_or("");
            if !rest.starts_with(c) {
                *slot = None;
                continue;
            }
            any = true;
            way.read += c.len_utf8();
            if way.read == way.word().len() {
                complete = Some(way.goal);
            }
        }
        match (any, complete) {
            (false, _) => match self.otherwise {
                Some(goal) if !self.started && self.first_word => MarkStep::Other(goal),
                _ => MarkStep::Wrong,
            },
            (true, None) => {
                self.ways = ways;
                self.started = true;
                MarkStep::More
            }
            (true, Some(goal)) => {
                self.ways = ways;
                self.complete_word(goal)
            }
        }
    }

    fn complete_word(&mut self, goal: Goal) -> MarkStep {
        for slot in &mut self.ways {
            *slot = slot
                .filter(|way| way.read == way.word().len())
                .and_then(Way::next);
        }
        self.started = false;
        self.first_word = false;
        match self.ways.iter().flatten().next() {
            None => MarkStep::Reached(goal),
            Some(_) => MarkStep::Word,
        }
    }
}

/// See [`Marks::progress`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Progress {
    None,
    Begun,
    Word,
}
