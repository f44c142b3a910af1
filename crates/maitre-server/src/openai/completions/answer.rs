//! Continuations of prompts: whole, and in chunks.

use maitre_engine::{Delta, Event, Finished, Part, TokenLogprob};

use super::offsets::Offsets;
use super::request::CompletionCall;
use crate::openai::events::{Chunks, Written};
use crate::openai::shape::{Shape, finish_reason};
use crate::openai::types::answer::{Completion, CompletionChoice, Shown, Usage};
use crate::openai::types::scores::CompletionScores;
use crate::service::answer::Answer;

/// What of a continuation is shown.
#[derive(Debug, Clone)]
pub(in crate::openai) struct CompletionShape {
    shape: Shape,
    echo: bool,
    scores_only: bool,
    skip_special: bool,
}

impl From<&CompletionCall> for CompletionShape {
    fn from(call: &CompletionCall) -> Self {
        Self {
            shape: call.shape.clone(),
            echo: call.echo,
            scores_only: call.scores_only,
            skip_special: call.skip_special,
        }
    }
}

/// Part of an answer, to be shown: of the prompt, or of what follows it.
struct Piece<'a> {
    text: String,
    ids: Vec<u32>,
    logprobs: &'a [TokenLogprob],
    is_prompt: bool,
}

impl CompletionShape {
    /// Whether the answers that the engine gives begin with the prompt.
    fn has_prompt(&self) -> bool {
        self.echo || self.shape.needs_prompt() || self.shape.logprobs.is_some()
    }

    fn response(&self, choices: Vec<CompletionChoice>, usage: Shown<Usage>) -> Completion<'_> {
        Completion {
            id: &self.shape.id,
            object: "text_completion",
            created: self.shape.created,
            model: &self.shape.model,
            choices,
            usage,
        }
    }

    /// The number of an answer among all.
    fn index(&self, prompt: usize, answer: u32) -> u32 {
        let prompt = u32::try_from(prompt).unwrap_or(u32::MAX);
        prompt.saturating_mul(self.shape.n).saturating_add(answer)
    }

    /// Whole answers, those to each prompt together.
    pub(in crate::openai) fn whole(&self, prompts: Vec<Vec<Answer>>) -> Completion<'_> {
        let mut usage = Usage::default();
        for answer in prompts.iter().flatten() {
            if let Some(finished) = &answer.finished {
                usage.add(finished, answer.index == 0);
            }
        }
        if self.scores_only {
            usage = usage.of_prompts_alone();
        }
        let prompts = prompts.into_iter().enumerate();
        let choices = prompts.flat_map(|(prompt, answers)| {
            let answers = answers.into_iter();
            answers.map(move |answer| self.choice(prompt, answer))
        });
        self.response(choices.collect(), Shown::Value(usage))
    }

    fn choice(&self, prompt: usize, mut answer: Answer) -> CompletionChoice {
        let shape = &self.shape;
        let text = answer.text.split_off(answer.echoed.bytes);
        let ids = answer.token_ids.split_off(answer.echoed.tokens);
        let mut whole = self.empty(self.index(prompt, answer.index));
        let mut offsets = None;
        let echoed = Piece {
            text: answer.text,
            ids: answer.token_ids,
            logprobs: &answer.prompt_logprobs,
            is_prompt: true,
        };
        let generated = Piece {
            text,
            ids,
            logprobs: &answer.logprobs,
            is_prompt: false,
        };
        self.add(echoed, &mut whole, &mut offsets);
        self.add(generated, &mut whole, &mut offsets);
        if let Some(scores) = &mut whole.logprobs {
            // What a stop string or the end of an answer took away ends where the text does.
            let end = whole.text.chars().count();
            scores
                .text_offset
                .iter_mut()
                .for_each(|it| *it = end.min(*it));
        }
        whole.prompt_logprobs = shape.prompt_scores(&answer.prompt_logprobs);
        if let Some(finished) = &answer.finished {
            self.finish(finished, &mut whole);
        }
        whole
    }

    /// An answer of which nothing is there.
    fn empty(&self, index: u32) -> CompletionChoice {
        CompletionChoice {
            index,
            text: String::new(),
            logprobs: self.shape.logprobs.map(|_| CompletionScores::default()),
            finish_reason: None,
            stop_reason: None,
            prompt_logprobs: None,
            prompt_token_ids: None,
            token_ids: self.shape.return_token_ids.then(Vec::new),
        }
    }

    /// Adds what of `piece` is shown; `offsets` knows the tokens before it, once the prompt has come.
    fn add(&self, piece: Piece<'_>, choice: &mut CompletionChoice, offsets: &mut Option<Offsets>) {
        let shape = &self.shape;
        let is_shown = match piece.is_prompt {
            true => self.echo,
            false => !self.scores_only,
        };
        if is_shown {
            choice.text.push_str(&piece.text);
        }
        if let Some(scores) = choice.logprobs.as_mut().filter(|_| is_shown) {
            let begin = || Offsets::of_prompt(&shape.engine, self.skip_special);
            let offsets = offsets.get_or_insert_with(begin);
            if let Some(first) = piece.ids.first().filter(|_| piece.is_prompt) {
                shape.add_unpredicted(*first, scores, offsets.next(*first));
            }
            shape.add_scores(piece.logprobs, scores, |id| offsets.next(id));
        }
        if piece.is_prompt && shape.logprobs.is_some() {
            let (skip, echo) = (self.skip_special, self.echo);
            *offsets = Some(Offsets::after_prompt(&shape.engine, skip, &piece.ids, echo));
        }
        if !shape.return_token_ids {
            return;
        }
        if piece.is_prompt {
            choice.prompt_token_ids = Some(piece.ids);
        } else if let Some(ids) = choice.token_ids.as_mut().filter(|_| is_shown) {
            ids.extend(piece.ids);
        }
    }

    fn finish(&self, finished: &Finished, choice: &mut CompletionChoice) {
        if self.scores_only {
            choice.finish_reason = Some("length");
            return;
        }
        choice.finish_reason = Some(finish_reason(finished.reason));
        choice.stop_reason = self.shape.stop_reason(finished);
    }
}

/// Makes chunks of events.
#[derive(Debug)]
pub(in crate::openai) struct CompletionChunks {
    shape: CompletionShape,
    places: Vec<Place>,
    usage: Usage,
}

/// How far an answer is.
#[derive(Debug, Clone, Default)]
struct Place {
    /// Whether the prompt has been seen, where answers begin with it.
    is_begun: bool,
    /// Of the prompt, until it is seen.
    prompt_logprobs: Vec<TokenLogprob>,
    offsets: Option<Offsets>,
    prompt_tokens: usize,
    generated: usize,
    reasoning: usize,
}

impl CompletionChunks {
    /// Chunks of the answers to `prompts` prompts.
    pub(in crate::openai) fn new(shape: CompletionShape, prompts: usize) -> Self {
        let n = usize::try_from(shape.shape.n).unwrap_or_default();
        Self {
            places: vec![Place::default(); n.saturating_mul(prompts)],
            shape,
            usage: Usage::default(),
        }
    }

    fn place(&mut self, index: u32) -> &mut Place {
        let index = usize::try_from(index).unwrap_or_default();
        if index >= self.places.len() {
            self.places.resize(index + 1, Place::default());
        }
        &mut self.places[index]
    }

    fn write(&mut self, choice: CompletionChoice, out: &mut Written) {
        let place = self.place(choice.index);
        let counts = (place.prompt_tokens, place.generated, place.reasoning);
        let shape = &self.shape.shape;
        let usage = match (shape.continuous_usage, shape.include_usage) {
            (true, _) => Shown::Value(Usage::so_far(counts.0, counts.1, counts.2)),
            (false, true) => Shown::Null,
            (false, false) => Shown::Hidden,
        };
        out.chunk(&self.shape.response(vec![choice], usage));
    }

    fn delta(&mut self, index: u32, delta: Delta, out: &mut Written) {
        let has_prompt = self.shape.has_prompt();
        let scores_only = self.shape.scores_only;
        let place = self.place(index);
        let is_prompt = has_prompt && !std::mem::replace(&mut place.is_begun, true);
        let prompt_logprobs = std::mem::take(&mut place.prompt_logprobs);
        if is_prompt {
            place.prompt_tokens = delta.token_ids.len();
        } else if !scores_only {
            place.generated += delta.token_ids.len();
            if matches!(delta.part, Part::Reasoning(_)) {
                place.reasoning += delta.token_ids.len();
            }
        }
        let mut offsets = place.offsets.take();
        let mut choice = self.shape.empty(index);
        let piece = Piece {
            text: delta.text().to_owned(),
            ids: delta.token_ids.into_vec(),
            logprobs: if is_prompt {
                &prompt_logprobs
            } else {
                &delta.logprobs
            },
            is_prompt,
        };
        self.shape.add(piece, &mut choice, &mut offsets);
        self.place(index).offsets = offsets;
        let has_scores = choice
            .logprobs
            .as_ref()
            .is_some_and(|it| !it.tokens.is_empty());
        let ids = [&choice.prompt_token_ids, &choice.token_ids];
        let has_ids = ids.into_iter().flatten().any(|ids| !ids.is_empty());
        if choice.text.is_empty() && !has_scores && !has_ids {
            return;
        }
        self.write(choice, out);
    }
}

impl Chunks for CompletionChunks {
    fn event(&mut self, prompt: usize, event: Event, out: &mut Written) {
        match event {
            Event::PromptLogprobs(scores) => {
                let index = self.shape.index(prompt, scores.index);
                self.place(index).prompt_logprobs = scores.tokens;
            }
            Event::Delta(delta) => {
                let index = self.shape.index(prompt, delta.index);
                self.delta(index, delta, out);
            }
            Event::Finished(finished) => {
                let index = self.shape.index(prompt, finished.index);
                self.usage.add(&finished, finished.index == 0);
                let mut choice = self.shape.empty(index);
                choice.logprobs = None;
                choice.token_ids = None;
                self.shape.finish(&finished, &mut choice);
                self.write(choice, out);
            }
        }
    }

    fn end(&mut self, out: &mut Written) {
        if !self.shape.shape.include_usage {
            return;
        }
        let usage = match self.shape.scores_only {
            true => self.usage.of_prompts_alone(),
            false => self.usage,
        };
        out.chunk(&self.shape.response(Vec::new(), Shown::Value(usage)));
    }
}
