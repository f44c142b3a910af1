//! Rows that follow from other rows: what determinism costs, what recorded steps save, and the host's share.

use crate::Half;
use crate::item::{Outcome, Timed, Unit};
use crate::report::Row;

/// Rows for every pair that was measured.
pub(crate) fn rows(rows: &[Row]) -> Vec<Row> {
    let timed = |id: &str| {
        let row = rows.iter().find(|row| row.id == id)?;
        match &row.outcome {
            Outcome::Timed(timed) => Some(timed),
            _ => None,
        }
    };
    let mut derived = Vec::new();
    for row in rows {
        let Outcome::Timed(this) = &row.outcome else {
            continue;
        };
        if let Some(stem) = row.id.strip_suffix("_strict")
            && let Some(fast) = timed(&format!("{stem}_fast"))
            && this.unit == Unit::TokensPerS
        {
            let title = row.title.trim_end_matches(", strict");
            derived.push(percent(
                format!("determinism_costs_{stem}"),
                format!("strict costs: {title}"),
                (1.0 - this.measured / fast.measured) * 100.0,
            ));
        }
        if let Some(stem) = row.id.strip_suffix("_unrecorded")
            && let Some(recorded) = timed(stem)
        {
            derived.push(percent(
                format!("recording_saves_{stem}"),
                "recorded steps save, of a step's time".to_owned(),
                (1.0 - this.measured / recorded.measured) * 100.0,
            ));
        }
    }
    derived
}

fn percent(id: String, title: String, measured: f64) -> Row {
    Row {
        id,
        title,
        half: Half::Speeds,
        took_s: 0.0,
        outcome: Outcome::Timed(Timed::new(Unit::Percent, measured)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(id: &str, title: &str, tokens_per_s: f64) -> Row {
        Row {
            outcome: Outcome::Timed(Timed::new(Unit::TokensPerS, tokens_per_s)),
            ..percent(id.to_owned(), title.to_owned(), 0.0)
        }
    }

    #[test]
    fn pairs_are_compared_and_what_has_no_partner_is_not() {
        let measured = [
            row("decode_strict", "m, 1 user, strict", 90.0),
            row("decode_fast", "m, 1 user, fast", 120.0),
            row("decode_strict_unrecorded", "m", 45.0),
            row("engine_strict", "alone, strict", 1.0),
        ];
        let found: Vec<(String, f64)> = rows(&measured)
            .into_iter()
            .map(|row| match row.outcome {
                Outcome::Timed(timed) => (row.title, timed.measured),
                other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!(
            found,
            [
                ("strict costs: m, 1 user".to_owned(), 25.0),
                ("recorded steps save, of a step's time".to_owned(), 50.0),
            ]
        );
    }
}
