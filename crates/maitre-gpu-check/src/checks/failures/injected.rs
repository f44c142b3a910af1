//! Launches that are made to fail, and the answers then and after.

use anyhow::{Result, ensure};
use futures_util::future::join_all;
use maitre_engine::{Engine, EngineError};

use crate::checks::engine::{ANSWERS, sampled, service};
use crate::item::{Checked, Outcome, figures};
use crate::service::{answer, idle};
use crate::site::{Site, Sizes};

/// Tokens, or why there are none.
type Answer = Result<Vec<u32>, EngineError>;

/// Requests at once, and launches before the one that fails. Each failure is to come while prompts are computed, whose
/// kernels are launched one by one: in the first kernel, in one of the first layer, in one of the second. A step of
/// several requests is run again in halves and fails none of them; that of one fails it. So each fails one request at
/// most (the first of a crowd may begin before the others are there), and the last, which is alone, fails it.
const FAILING: [(usize, u64); 4] = [(ANSWERS, 0), (ANSWERS, 5), (ANSWERS, 14), (1, 5)];

pub(super) fn failing(site: &mut Site) -> Result<Outcome> {
    let (model, sizes) = (site.check_model()?, site.sizes);
    let backend = site.strict.clone();
    let (engine, busy) = service(sizes).start(model, &backend)?;
    site.handle.block_on(async {
        let right = together(&engine, sizes, ANSWERS).await?;
        ensure!(
            right.iter().all(Result::is_ok) && busy.failures() == 0,
            "steps failed before any was made to"
        );
        let (mut failed, mut struck, mut wrong, mut recovered) = (0, 0, 0, 0);
        for (at_once, launches) in FAILING {
            // They shall compute their prompts themselves.
            engine.reset_prefix_cache().await?;
            let before = busy.failures();
            backend.fail_launch_after(launches);
            let meanwhile = together(&engine, sizes, at_once).await?;
            // What did not fail by now shall not fail later.
            backend.fail_launch_after(u64::MAX);
            struck += usize::from(busy.failures() > before);
            failed += meanwhile.iter().filter(|it| is_failure(it)).count();
            wrong += differing(&right, &meanwhile);
            engine.reset_prefix_cache().await?;
            let after = together(&engine, sizes, ANSWERS).await?;
            recovered += usize::from(after.iter().all(Result::is_ok));
            wrong += differing(&right, &after);
        }
        idle(&engine).await?;
        let all = FAILING.len();
        Ok(Checked {
            passed: struck == all && (1..=all).contains(&failed) && recovered == all && wrong == 0,
            measured: format!("{struck} of {all}, {failed}, {wrong} wrong"),
            limit: format!("all steps, 1 to {all} requests, 0"),
            figures: figures([
                ("failures_to_inject", all as f64),
                ("failures_injected", struck as f64),
                ("steps_failed", busy.failures() as f64),
                ("requests_failed", failed as f64),
                ("answers_wrong", wrong as f64),
                ("recoveries", recovered as f64),
            ]),
        }
        .into())
    })
}

/// The first so many answers, asked for at the same time.
async fn together(engine: &Engine, sizes: &Sizes, count: usize) -> Result<Vec<Answer>> {
    let requests = (0..count).map(|which| sampled(sizes, which));
    let requests = requests.collect::<Result<Vec<_>>>()?;
    Ok(join_all(requests.into_iter().map(|it| answer(engine, it))).await)
}

/// Answers that came and are not as they should be.
fn differing(right: &[Answer], found: &[Answer]) -> usize {
    let mut count = 0;
    for (right, found) in right.iter().zip(found) {
        if let (Ok(right), Ok(found)) = (right, found) {
            count += usize::from(right != found);
        }
    }
    count
}

fn is_failure(answer: &Answer) -> bool {
    matches!(answer, Err(EngineError::Failed { .. }))
}
