//! How fast, beside what the device's copy and product rates allow ([`prediction`](super::prediction)).
//!
//! ```text
//! rates     copies and large products
//! products  matrices alone
//! operators what lies between them, and the cost of a launch
//! kernels   attention and sampling alone
//! steps     a runner's decodes and prefills: the device's part of a step, and the little that drives it
//! service   the engine with N users in this process: what a user gets, and the host's share of it
//! ```

pub(super) mod derived;
mod goals;
mod kernels;
mod operators;
mod products;
pub(super) mod rates;
mod service;
mod steps;

use maitre_tensor::WeightFormat;

use super::item::Item;
use super::shape::{QWEN3_06B, QWEN3_8B, Shape, TINY};
use super::{Options, ShapeChoice};

/// What is timed of one model.
#[derive(Debug, Clone, Copy)]
struct Programme {
    shape: Shape,
    /// Users whose tokens are decoded together.
    users: &'static [usize],
    /// The same through the engine.
    served: &'static [usize],
    /// Positions of each when the clock starts, and steps until it stops.
    context: usize,
    steps: usize,
    /// Tokens of a prompt that is timed alone, if one is.
    prompt: Option<usize>,
    /// Tokens of a user's prompt and answer.
    request: (usize, usize),
    /// Most seconds for making weights, packing and copying them, and a few steps.
    loading_s: f64,
}

/// Contexts are those in the middle of an answer of 1,024 tokens to a prompt of 128: a decode's time grows with its
/// context at an even pace, so this is the mean.
const LARGE: Programme = Programme {
    shape: QWEN3_8B,
    users: &[1, 64, 256],
    served: &[1, 64, 256],
    context: 576,
    steps: 124,
    prompt: Some(2048),
    request: (128, 1024),
    loading_s: 30.0,
};

const SMALL: Programme = Programme {
    shape: QWEN3_06B,
    users: &[1, 256],
    served: &[1, 256],
    loading_s: 20.0,
    ..LARGE
};

const TINIEST: Programme = Programme {
    shape: TINY,
    users: &[1, 2],
    served: &[2],
    context: 20,
    steps: 2,
    prompt: Some(16),
    request: (6, 4),
    loading_s: 20.0,
};

/// How the device computes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    Strict,
    Fast,
}

impl Mode {
    const BOTH: [Self; 2] = [Self::Strict, Self::Fast];

    fn name(self) -> &'static str {
        match self {
            Self::Strict => "strict",
            Self::Fast => "fast",
        }
    }

    fn is_deterministic(self) -> bool {
        self == Self::Strict
    }
}

/// Adds measurements of operators and of the model that matters most.
pub(super) fn first_model(options: &Options, items: &mut Vec<Item>) {
    kernels::list(options, items);
    products::list(options, items);
    operators::list(options, items);
    let programme = match options.shape {
        ShapeChoice::Large => &LARGE,
        ShapeChoice::Small => &SMALL,
        ShapeChoice::Tiny => &TINIEST,
    };
    in_bf16(programme, items);
}

/// Adds what is measured beside it: integers, and a smaller model.
pub(super) fn other_models(options: &Options, items: &mut Vec<Item>) {
    match options.shape {
        ShapeChoice::Large => {
            in_integers(&LARGE, items);
            in_bf16(&SMALL, items);
        }
        ShapeChoice::Small => {}
        ShapeChoice::Tiny => in_integers(&TINIEST, items),
    }
}

fn in_bf16(programme: &Programme, items: &mut Vec<Item>) {
    steps::load(programme, WeightFormat::Bf16, items);
    steps::list(programme, items);
    service::list(programme, items);
}

fn in_integers(programme: &Programme, items: &mut Vec<Item>) {
    for format in [WeightFormat::INT4, WeightFormat::INT8] {
        steps::load(programme, format, items);
        for mode in Mode::BOTH {
            steps::decode(programme, format, 1, mode, true, items);
        }
    }
}

/// As in "1 user".
fn of_users(users: usize) -> String {
    match users {
        1 => "1 user".to_owned(),
        _ => format!("{users} users"),
    }
}
