//! Prefill and decode on boxes of their own: the best way to share out a few boxes.
//!
//! Two to four boxes in the place of as many that do both, with every share of them for prompts. Two and two of four are one and one
//! of two, twice. The load of a split is that of all its boxes, and is told for each of them.

use super::search::RESOLUTION;
use super::techniques::told;
use super::{Gain, Question, Technique};
use crate::{SimError, Split};

/// Boxes for prompts, and for what comes behind the first token.
const SHARES: [(usize, usize); 5] = [(1, 1), (1, 2), (2, 1), (1, 3), (3, 1)];

impl Question {
    /// The split that serves most for each box, in the place of boxes that serve `load` each.
    pub(super) fn prefill_apart(&self, load: f64) -> Result<Technique, SimError> {
        let mut best: Option<(Split, f64)> = None;
        let mut why = None;
        for (prefill, decode) in SHARES {
            let split = Split {
                prefill,
                decode,
                link_bytes_per_second: self.link_bytes_per_second,
            };
            let most = best.map_or(0.0, |(_, load)| load);
            match self.served_apart(split, load, most) {
                Ok(Some(per_box)) => best = Some((split, per_box)),
                Ok(None) => {}
                Err(error) => why = Some(told(error)?),
            }
        }
        let (change, gain) = match (best, why) {
            (Some((split, per_box)), _) => (
                format!(
                    "{} of {} boxes for prompts, {} GB/s between them",
                    split.prefill,
                    split.prefill + split.decode,
                    super::figure::number(split.link_bytes_per_second / 1e9)
                ),
                Gain::Serves {
                    load_per_box: per_box,
                    times: per_box / load,
                },
            ),
            (None, why) => (
                "some boxes for prompts".to_owned(),
                Gain::Impossible(why.unwrap_or_default()),
            ),
        };
        Ok(Technique {
            name: "prefill apart",
            change,
            gain,
        })
    }

    /// What a split serves for each box, if that is more than `most`: one trial tells if it cannot be.
    fn served_apart(&self, split: Split, load: f64, most: f64) -> Result<Option<f64>, SimError> {
        let changed = Self {
            split: Some(split),
            ..self.clone()
        };
        let boxes = changed.boxes_of_trial();
        let more = changed.rounded(most * boxes * (1.0 + RESOLUTION));
        if most > 0.0 && !changed.keeps(more)? {
            return Ok(None);
        }
        let capacity = changed.capacity(boxes * load.max(most))?;
        Ok(Some(capacity.keeps.load / boxes))
    }
}
