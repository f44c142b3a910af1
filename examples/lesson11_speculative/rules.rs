//! The rules by which a guess stands, on distributions that fit on a page and on the bundled pair: how often guesses
//! stand by each, and which rules leave the answers as they are.

use anyhow::{Result, ensure};
use maitre_examples::heldout::{self, WINDOW};
use maitre_examples::numbers::normal;
use maitre_examples::picture::{self, Line};
use maitre_examples::reader::Reader;
use maitre_examples::verdicts::{Rule, Theory, Toy, rules, stands};
use maitre_examples::{quick, table};
use maitre_sampling::{Sampler, SamplingParams, TokenCounts};

/// What is compared: the default, the classical rule, and what comes without an idea.
const RULES: [Rule; 3] = [Rule::Coupling, Rule::Rejection, Rule::OwnNoise];

/// A share of 0.001 of sound rules exceeds this with 16 answers, 15 degrees of freedom.
const CRITICAL: f64 = 37.7;

fn percent(share: f64) -> String {
    format!("{:.1} %", 100.0 * share)
}

/// The shares of drafts that stand, by [`RULES`], over a number of tries.
#[derive(Default)]
struct Stood([f64; RULES.len()]);

impl Stood {
    fn count(
        &mut self,
        sampler: &mut Sampler,
        params: &SamplingParams,
        position: u64,
        target: &[f32],
        draft: &[f32],
        weight: f64,
    ) -> Result<()> {
        let counts = TokenCounts::default();
        let rules = rules(params, &counts, position);
        for (rule, share) in RULES.into_iter().zip(&mut self.0) {
            if stands(sampler, rule, &rules, target, draft)? {
                *share += weight;
            }
        }
        Ok(())
    }
}

/// A target that stays, and drafts that are ever less like it.
pub(super) fn small_distributions() -> Result<()> {
    let draws: u64 = if quick() { 500 } else { 20_000 };
    let (params, counts, mut sampler) = (
        SamplingParams::default(),
        TokenCounts::default(),
        Sampler::new(),
    );
    let target: Vec<f32> = normal(11, 8).iter().map(|x| 1.2 * x).collect();
    let other: Vec<f32> = normal(12, 8).iter().map(|x| 1.2 * x).collect();
    let p = sampler.distribution(&target, &params, &counts, &[])?;
    let r = sampler.distribution(&other, &params, &counts, &[])?;
    let (mut rows, mut points) = (Vec::new(), Vec::new());
    for share in 0..=8 {
        let share = share as f32 / 8.0;
        let mixed = (0..8).map(|x| (1.0 - share) * p.probability(x) + share * r.probability(x));
        let draft: Vec<f32> = mixed.map(f32::ln).collect();
        let q = sampler.distribution(&draft, &params, &counts, &[])?;
        let theory = Theory::of(&p, &q);
        let mut stood = Stood::default();
        for position in 0..draws {
            let weight = 1.0 / draws as f64;
            stood.count(&mut sampler, &params, position, &target, &draft, weight)?;
        }
        let [coupling, rejection, own] = stood.0;
        rows.push(vec![
            format!("{:.3}", theory.total_variation),
            percent(coupling),
            percent(theory.coupling),
            percent(theory.least()),
            percent(rejection),
            percent(1.0 - theory.total_variation),
            percent(own),
            percent(theory.own_noise),
        ]);
        points.push((theory, stood.0));
    }
    println!("\n  One guess at a token of eight, {draws} times\n");
    let header = [
        "TV",
        "coupling",
        "exact",
        "at least",
        "rejection",
        "exact",
        "own noise",
        "exact",
    ];
    table::print(&header, &rows);
    draw_rules(&points)
}

fn draw_rules(points: &[(Theory, [f64; RULES.len()])]) -> Result<()> {
    type Share = fn(&(Theory, [f64; RULES.len()])) -> f64;
    let shares: [(&str, Share); 4] = [
        ("rejection", |(_, stood)| stood[1]),
        ("coupling", |(_, stood)| stood[0]),
        ("coupling, at least", |(theory, _)| theory.least()),
        ("noise of its own", |(_, stood)| stood[2]),
    ];
    let lines = shares.map(|(name, share)| Line {
        name: name.into(),
        points: points
            .iter()
            .map(|point| (point.0.total_variation, share(point)))
            .collect(),
    });
    let path = picture::lines(
        "lesson11_rules",
        "How often a guess stands",
        "total variation distance of draft and target",
        "share",
        &lines,
    )?;
    println!("picture: {}\n", path.display());
    Ok(())
}

/// Which rules leave the answers as they are.
pub(super) fn distributions_kept() -> Result<()> {
    let (toy, draws) = (Toy::default(), if quick() { 2_000 } else { 100_000 });
    let cases = [
        ("coupling", Rule::Coupling, true),
        (
            "coupling, drafts with noise of their own",
            Rule::OwnNoise,
            true,
        ),
        ("rejection", Rule::Rejection, true),
        (
            "wrong: replaced from p itself",
            Rule::ReplacedFromTarget,
            false,
        ),
        (
            "wrong: judged by the noise that drew it",
            Rule::NoiseUsedTwice,
            false,
        ),
        ("wrong: doubtful drafts withheld", Rule::DoubtsHidden, false),
    ];
    let mut rows = Vec::new();
    for (name, rule, is_sound) in cases {
        let found = toy.chi_square(rule, draws)?;
        // Seeds are fixed, so it is the same each time. A few draws are too few to find the wrong rules.
        ensure!(
            (found < CRITICAL) == is_sound || quick(),
            "{name}: chi-square {found:.1}"
        );
        let verdict = if found < CRITICAL { "kept" } else { "changed" };
        rows.push(vec![name.into(), format!("{found:.1}"), verdict.into()]);
    }
    println!(
        "  The first two tokens of {draws} answers against their exact probabilities:\n  15 is to be expected, more than {CRITICAL} by chance once in a thousand times\n"
    );
    table::print(&["", "chi-square", "distribution"], &rows);
    Ok(())
}

/// The same rules at every position of text that neither model has seen.
pub(super) fn on_text(target: &mut Reader, draft: &mut Reader) -> Result<()> {
    let ids = heldout::ids()?;
    let windows = if quick() { 1 } else { 16 };
    let (length, beginning) = (if quick() { 64 } else { WINDOW }, 16);
    let settings = [(0.0, 1.0), (0.5, 1.0), (0.8, 1.0), (0.8, 0.95), (1.0, 1.0)];
    let mut sums = [(); 5].map(|()| (Stood::default(), 0.0));
    let (counts, mut sampler) = (TokenCounts::default(), Sampler::new());
    let weight = 1.0 / (windows * (length - beginning)) as f64;
    for (seed, window) in ids.chunks_exact(WINDOW).take(windows).enumerate() {
        let window = &window[..length];
        let [target, draft] = [&mut *target, &mut *draft].map(|reader| {
            reader.keep(0);
            reader.read(window, length)
        });
        let rows = target?.into_iter().zip(draft?).enumerate().skip(beginning);
        for (at, (target, draft)) in rows {
            for ((temperature, top_p), (stood, overlap)) in settings.iter().zip(&mut sums) {
                let params = SamplingParams {
                    temperature: *temperature,
                    top_p: *top_p,
                    seed: seed as u64,
                    ..SamplingParams::default()
                };
                stood.count(&mut sampler, &params, at as u64, &target, &draft, weight)?;
                let p = sampler.distribution(&target, &params, &counts, &[])?;
                let q = sampler.distribution(&draft, &params, &counts, &[])?;
                let shared = p.iter().map(|(token, p)| p.min(q.probability(token)));
                *overlap += weight * f64::from(shared.sum::<f32>());
            }
        }
    }
    let cells = settings
        .iter()
        .zip(&sums)
        .map(|(setting, (stood, overlap))| {
            let mut row = vec![match setting {
                (0.0, _) => "greedy".to_owned(),
                (temperature, 1.0) => format!("temperature {temperature}"),
                (temperature, top_p) => format!("temperature {temperature}, top-p {top_p}"),
            }];
            row.extend(stood.0.map(percent));
            row.push(percent(*overlap));
            row
        });
    println!(
        "  The bundled pair, one guess at each of {} tokens of held-out text\n",
        windows * (length - beginning)
    );
    let header = ["", "coupling", "rejection", "own noise", "1 - TV"];
    table::print(&header, &cells.collect::<Vec<_>>());
    Ok(())
}
