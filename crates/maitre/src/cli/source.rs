//! What `--model` and `--draft-model` mean: a bundled model, a directory, or a name on the Hub, in this order.

use std::path::{Path, PathBuf};

#[cfg(feature = "hub")]
use anyhow::Context;
use anyhow::Result;
#[cfg(not(all(feature = "bundled", feature = "hub")))]
use anyhow::bail;
#[cfg(feature = "hub")]
use indicatif::HumanBytes;
use maitre::ModelSource;
use maitre::server::Startup;

/// The name of the bundled pair; as `--draft-model` it is the smaller of the two.
pub(crate) const BUNDLED: &str = "bundled";

/// What `--model` means.
pub(crate) async fn target(model: &str, startup: &Startup) -> Result<ModelSource> {
    if model == BUNDLED {
        return bundled();
    }
    elsewhere("--model", model, startup).await
}

/// What `--draft-model` means.
pub(crate) async fn draft(model: &str, startup: &Startup) -> Result<ModelSource> {
    if model == BUNDLED {
        return bundled_draft();
    }
    elsewhere("--draft-model", model, startup).await
}

async fn elsewhere(flag: &str, model: &str, startup: &Startup) -> Result<ModelSource> {
    if is_from_hub(model) {
        return download(flag, model, startup)
            .await
            .map(ModelSource::Directory);
    }
    Ok(ModelSource::Directory(model.into()))
}

/// Whether the name is one on the Hub: what is here already is taken from here.
pub(crate) fn is_from_hub(model: &str) -> bool {
    is_hub_name(model) && !Path::new(model).exists()
}

/// ORG/NAME: two parts of the characters the Hub allows, and not a path written as one.
fn is_hub_name(model: &str) -> bool {
    let part = |part: &str| {
        !part.is_empty()
            && !part.starts_with('.')
            && part
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c))
    };
    matches!(model.split_once('/'), Some((org, name)) if part(org) && part(name))
}

#[cfg(feature = "bundled")]
pub(crate) fn bundled() -> Result<ModelSource> {
    Ok(maitre::bundled())
}

#[cfg(not(feature = "bundled"))]
pub(crate) fn bundled() -> Result<ModelSource> {
    bail!("this build has no bundled model; name one with --model")
}

#[cfg(feature = "bundled")]
pub(crate) fn bundled_draft() -> Result<ModelSource> {
    Ok(maitre::bundled_draft())
}

#[cfg(not(feature = "bundled"))]
pub(crate) fn bundled_draft() -> Result<ModelSource> {
    bail!("this build has no bundled draft model; name another with --draft-model, or leave it out")
}

#[cfg(feature = "hub")]
async fn download(flag: &str, model: &str, startup: &Startup) -> Result<PathBuf> {
    let bar = maitre::hub::progress_bar();
    let (seen, name) = (bar.clone(), model.to_owned());
    startup.doing_live(move || match seen.length() {
        None | Some(0) => format!("asking the Hub for {name}"),
        Some(total) => format!(
            "downloading {name}: {} of {}",
            HumanBytes(seen.position()),
            HumanBytes(total)
        ),
    });
    maitre::hub::resolve(model, None, &bar)
        .await
        .with_context(|| {
            format!("{flag} {model} is no directory here, so the Hub was asked for it")
        })
}

#[cfg(not(feature = "hub"))]
async fn download(flag: &str, model: &str, _startup: &Startup) -> Result<PathBuf> {
    bail!("{flag} {model} is no directory here, and this build can't download models")
}

#[cfg(test)]
mod tests {
    use super::is_hub_name;

    #[test]
    fn hub_names_are_told_from_paths() {
        for name in ["Qwen/Qwen3-0.6B", "org/a.b_c"] {
            assert!(is_hub_name(name), "{name}");
        }
        for path in [
            "./model",
            "../model",
            "/abs/model",
            "model",
            "a/b/c",
            "a/",
            "/b",
            "a b/c",
        ] {
            assert!(!is_hub_name(path), "{path}");
        }
    }
}
