//! What is told of ratios beside stored ones, and what makes the gate fail.

use anyhow::{Result, ensure};

use super::ratio::{Ratio, WIDEST};
use super::stored::Ratios;

/// Prints all ratios, and what they are beside the stored ones.
pub(super) fn show(found: &Ratios, before: &Ratios) {
    println!("\n| workload | ratio | 95 % bounds | stored | |\n|---|---|---|---|---|");
    for (name, now) in found {
        let before = before.get(name);
        let verdict = before.map_or("new", |before| now.verdict(*before));
        let stored = before.map_or(String::new(), |it| format!("{:.3}", it.median));
        let Ratio {
            median,
            lower,
            upper,
        } = now;
        println!("| {name} | {median:.3} | {lower:.3} to {upper:.3} | {stored} | {verdict} |");
    }
}

/// Says which comparisons can hardly fail.
pub(super) fn note(found: &Ratios, before: &Ratios) {
    let new = found.keys().filter(|name| !before.contains_key(*name));
    let new = new.count();
    if new > 0 {
        println!("\n{new} ratios are new and compared with nothing: `--write` stores them");
    }
    let unsure = unsure(before);
    if !unsure.is_empty() {
        println!(
            "\nstored with bounds wider than ±{:.0} %, so that hardly any regression is found: {}; store them anew with `--write` on a \
             quiet machine",
            WIDEST * 100.0,
            unsure.join("; ")
        );
    }
}

/// Fails if a ratio is smaller than it was, or is not measured any more.
pub(super) fn judge(found: &Ratios, before: &Ratios) -> Result<()> {
    let missing: Vec<&String> = before
        .keys()
        .filter(|name| !found.contains_key(*name))
        .collect();
    ensure!(
        missing.is_empty(),
        "stored, and measured no longer: {missing:?}; store anew with --write"
    );
    let slower = found.iter().filter(|(name, now)| {
        let before = before.get(*name);
        before.is_some_and(|before| now.verdict(*before) == "SLOWER")
    });
    let slower: Vec<&str> = slower.map(|(name, _)| name.as_str()).collect();
    ensure!(
        slower.is_empty(),
        "slower than stored: {}",
        slower.join("; ")
    );
    Ok(())
}

/// Fails if a ratio was too uncertain to be stored.
pub(super) fn refuse_unsure(found: &Ratios) -> Result<()> {
    let unsure = unsure(found);
    ensure!(
        unsure.is_empty(),
        "not stored, since their bounds are wider than ±{:.0} % and hardly any regression would be found: {}; the other ratios are \
         stored; measure these again on a quiet machine, or with more --rounds",
        WIDEST * 100.0,
        unsure.join("; ")
    );
    Ok(())
}

/// The ratios whose bounds are too wide, each with its bounds.
fn unsure(ratios: &Ratios) -> Vec<String> {
    let unsure = ratios.iter().filter(|(_, ratio)| !ratio.is_sure());
    let told = |(name, ratio): (&String, &Ratio)| {
        let Ratio {
            median,
            lower,
            upper,
        } = ratio;
        format!("{name} ({median:.3}, {lower:.3} to {upper:.3})")
    };
    unsure.map(told).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_new_is_no_failure_and_what_is_gone_is_one() {
        let (one, two) = ("kernel: a".to_owned(), "kernel: b".to_owned());
        let (ours, both) = (
            Ratios::from([(one.clone(), Ratio::around(0.5, 0.1))]),
            Ratios::from([
                (one, Ratio::around(0.5, 0.1)),
                (two, Ratio::around(0.5, 0.1)),
            ]),
        );
        assert!(judge(&both, &ours).is_ok());
        let slower = Ratios::from([("kernel: a".to_owned(), Ratio::around(0.2, 0.02))]);
        let error = judge(&slower, &ours).unwrap_err().to_string();
        assert!(error.contains("slower than stored: kernel: a"), "{error}");
        let error = judge(&ours, &both).unwrap_err().to_string();
        assert!(error.contains("measured no longer"), "{error}");
    }

    #[test]
    fn ratios_that_are_too_uncertain_to_be_stored_are_named() {
        let sure = ("kernel: a".to_owned(), Ratio::around(0.5, 0.05));
        assert!(refuse_unsure(&Ratios::from([sure.clone()])).is_ok());
        let found = Ratios::from([sure, ("kernel: b".to_owned(), Ratio::around(0.6, 0.2))]);
        let error = refuse_unsure(&found).unwrap_err().to_string();
        assert!(
            error.contains("wider than ±15 %")
                && error.contains("kernel: b (0.600, 0.400 to 0.800)"),
            "{error}"
        );
        assert!(
            !error.contains("kernel: a") && error.contains("on a quiet machine"),
            "{error}"
        );
    }
}
