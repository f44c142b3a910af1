//! A plan as people read it.

use std::fmt;

use super::figure::number;
use super::{Gain, Plan};
use crate::workload::OutOfOrder;

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let boxes = if self.boxes == 1 { "box" } else { "boxes" };
        writeln!(
            f,
            "{} on {} × {}: {} {} need {} {boxes}, {} each, with {:.0} % of the answers within {}\n",
            self.model,
            self.devices,
            self.hardware,
            number(self.load),
            self.unit,
            self.boxes,
            number(self.load_per_box),
            self.slo_share * 100.0,
            self.slo
        )?;
        if self.skipped_lines > 0 {
            let order = OutOfOrder(self.lines_out_of_order);
            writeln!(f, "{:<20}{}{order}", "skipped lines", self.skipped_lines)?;
        }
        for figure in &self.figures {
            writeln!(f, "{figure}")?;
        }
        let limit = &self.limit;
        write!(f, "\nlimit: {}; {}", limit.scarce, limit.because)?;
        match limit.missed {
            Some(missed) => writeln!(f, "; more load misses {missed}")?,
            None => writeln!(f)?,
        }
        if self.techniques.is_empty() {
            return Ok(());
        }
        writeln!(
            f,
            "\n{:<18}{:<52}{:>12}{:>12}",
            "technique", "change", self.unit, "per device"
        )?;
        for technique in &self.techniques {
            write!(f, "{:<18}{:<52}", technique.name, technique.change)?;
            match &technique.gain {
                Gain::Serves {
                    load_per_box,
                    times,
                } => writeln!(
                    f,
                    "{:>12}{:>12}",
                    number(*load_per_box),
                    gained(*times, self.resolution)
                )?,
                Gain::Impossible(why) => writeln!(f, "  {why}")?,
            }
        }
        Ok(())
    }
}

/// A gain in percent, or that the search does not tell it from none.
fn gained(times: f64, resolution: f64) -> String {
    match (times - 1.0).abs() <= resolution {
        true => format!("within {} %", number(resolution * 100.0)),
        false => format!("{:+.1} %", (times - 1.0) * 100.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gain_that_the_search_does_not_resolve_is_no_number() {
        for (times, expected) in [
            (1.0, "within 2 %"),
            (1.0099, "within 2 %"),
            (0.981, "within 2 %"),
            (1.021, "+2.1 %"),
            (0.979, "-2.1 %"),
            (1.542, "+54.2 %"),
        ] {
            assert_eq!(gained(times, 0.02), expected, "{times}");
        }
    }
}
