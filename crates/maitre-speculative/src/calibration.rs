//! How far a drafted token can be trusted, learnt from what became of those before.
//!
//! Every drafted token belongs to a [`Class`]: how sure the draft model was of it, or how much of the text
//! before it had been seen earlier. For each class the share that was accepted is counted, given that all before
//! it in the same draft were. A request may be easier or harder than others; by how much is one number, the
//! accepted over the expected.

/// How sure the proposer of a token, the draft model or the history, was of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Class(u8);

/// Upper ends of the draft model's probability classes.
const PROBABILITIES: [f32; 6] = [0.2, 0.4, 0.6, 0.8, 0.95, f32::INFINITY];
/// Upper ends of the history's match lengths.
const LENGTHS: [usize; 9] = [1, 2, 3, 4, 6, 9, 15, 31, usize::MAX];
const CLASSES: usize = PROBABILITIES.len() + LENGTHS.len();

/// What is taken for granted of a class before anything is known: the share, and how many observations that
/// counts for.
const PRIOR: [f64; CLASSES] = [
    0.3, 0.4, 0.55, 0.7, 0.85, 0.95, 0.2, 0.35, 0.45, 0.5, 0.55, 0.65, 0.8, 0.9, 0.95,
];
const PRIOR_WEIGHT: f64 = 6.0;

/// What is kept of the counts when one more comes, so that the last few hundred count.
const MEMORY: f64 = 0.997;
/// What is kept of them in a step that drafts nothing: what is not tried is hoped for again, later.
const FORGETTING: f64 = 0.9995;
/// The same for a single request, which has fewer.
const REQUEST_MEMORY: f64 = 0.97;
/// Accepted tokens that a new request is taken to have had, all of them as expected.
const REQUEST_PRIOR: f64 = 2.0;
/// Nothing is certain.
const MOST: f64 = 0.99;

impl Class {
    /// A token of this probability in the draft model's eyes.
    pub(crate) fn of_probability(probability: f32) -> Self {
        let index = PROBABILITIES.iter().position(|&end| probability < end);
        // A probability that is NaN says nothing: the class in the middle.
        Self(index.unwrap_or(PROBABILITIES.len() / 2) as u8)
    }

    /// A token that followed the last `length` tokens when they were seen before.
    pub(crate) fn of_match(length: usize) -> Self {
        let index = LENGTHS.iter().position(|&end| length <= end);
        Self((PROBABILITIES.len() + index.unwrap_or(LENGTHS.len() - 1)) as u8)
    }
}

/// Decayed counts of tries and successes.
#[derive(Debug, Clone, Copy, Default)]
struct Share {
    tries: f64,
    hits: f64,
}

impl Share {
    fn observe(&mut self, hit: bool, memory: f64) {
        self.forget(memory);
        self.tries += 1.0;
        self.hits += f64::from(u8::from(hit));
    }

    fn forget(&mut self, memory: f64) {
        self.tries *= memory;
        self.hits *= memory;
    }

    fn with_prior(self, share: f64, weight: f64) -> f64 {
        (self.hits + share * weight) / (self.tries + weight)
    }
}

/// Acceptance over all requests.
#[derive(Debug, Clone, Default)]
pub(crate) struct Calibration {
    classes: [Share; CLASSES],
    /// Whatever the draft model proposes, before its probability is known.
    model: Share,
}

/// One request's acceptance beside what the classes lead one to expect.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Habit {
    expected: f64,
    accepted: f64,
}

impl Habit {
    /// How much likelier than others this request's drafts are accepted.
    fn factor(self) -> f64 {
        ((self.accepted + REQUEST_PRIOR) / (self.expected + REQUEST_PRIOR)).clamp(0.05, 2.0)
    }
}

impl Calibration {
    /// How probably a token of this class is accepted if all before it are.
    pub(crate) fn acceptance(&self, class: Class, habit: Habit) -> f64 {
        (self.of_class(class) * habit.factor()).min(MOST)
    }

    /// The same for a token that the draft model has still to propose.
    pub(crate) fn of_model(&self, habit: Habit) -> f64 {
        (self.model.with_prior(0.7, PRIOR_WEIGHT) * habit.factor()).min(MOST)
    }

    fn of_class(&self, class: Class) -> f64 {
        let index = usize::from(class.0);
        self.classes[index].with_prior(PRIOR[index], PRIOR_WEIGHT)
    }

    /// A token of this class was accepted or not, after all before it were.
    pub(crate) fn observe(&mut self, class: Class, habit: &mut Habit, accepted: bool) {
        habit.expected = habit.expected * REQUEST_MEMORY + self.of_class(class);
        habit.accepted = habit.accepted * REQUEST_MEMORY + f64::from(u8::from(accepted));
        let index = usize::from(class.0);
        self.classes[index].observe(accepted, MEMORY);
        if index < PROBABILITIES.len() {
            self.model.observe(accepted, MEMORY);
        }
    }

    /// The draft model had nothing to propose.
    pub(crate) fn observe_silence(&mut self) {
        self.model.observe(false, MEMORY);
    }

    /// A step in which the draft model proposed nothing.
    pub(crate) fn rest(&mut self) {
        self.model.forget(FORGETTING);
        for class in &mut self.classes[..PROBABILITIES.len()] {
            class.forget(FORGETTING);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_are_told_apart() {
        assert_eq!(Class::of_probability(0.0), Class(0));
        assert_eq!(Class::of_probability(1.0), Class(5));
        assert_eq!(Class::of_probability(f32::NAN), Class(3));
        assert_eq!(Class::of_match(1), Class(6));
        assert_eq!(Class::of_match(5), Class::of_match(6));
        assert_eq!(Class::of_match(1000), Class(14));
    }

    #[test]
    fn shares_are_learnt_class_by_class() {
        let mut calibration = Calibration::default();
        for i in 0..2000 {
            let mut habit = Habit::default();
            calibration.observe(Class::of_match(2), &mut habit, i % 5 == 0);
            calibration.observe(Class::of_probability(0.99), &mut habit, true);
        }
        let new = Habit::default();
        assert!((calibration.acceptance(Class::of_match(2), new) - 0.2).abs() < 0.02);
        assert!(calibration.acceptance(Class::of_probability(0.97), new) > 0.97);
    }

    #[test]
    fn a_hard_request_is_noticed_and_others_are_not_blamed() {
        let mut calibration = Calibration::default();
        let class = Class::of_match(8);
        let (mut easy, mut hard) = (Habit::default(), Habit::default());
        for _ in 0..300 {
            calibration.observe(class, &mut easy, true);
            calibration.observe(class, &mut hard, false);
        }
        assert!(calibration.acceptance(class, easy) > 0.6);
        assert!(calibration.acceptance(class, hard) < 0.2);
    }

    #[test]
    fn what_is_not_tried_is_hoped_for_again() {
        let mut calibration = Calibration::default();
        for _ in 0..100 {
            calibration.observe(Class::of_probability(0.5), &mut Habit::default(), false);
        }
        assert!(calibration.of_model(Habit::default()) < 0.1);
        (0..10_000).for_each(|_| calibration.rest());
        assert!(calibration.of_model(Habit::default()) > 0.5);
    }
}
