//! What `--model` and `--draft-model` mean: a bundled model, a directory or file, a short name, or a name on the Hub, in
//! this order.

use std::io::Read;
use std::path::{Path, PathBuf};

#[cfg(feature = "hub")]
use anyhow::Context;
use anyhow::{Result, bail};
#[cfg(feature = "hub")]
use indicatif::HumanBytes;
use maitre::ModelSource;
use maitre::server::Startup;

use super::hub_name::HubName;
use super::short_names;

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

async fn elsewhere(flag: &'static str, model: &str, startup: &Startup) -> Result<ModelSource> {
    if let Some(name) = on_hub(flag, model)? {
        tell_licence(model, &name);
        return download(flag, &name, startup).await;
    }
    let path = PathBuf::from(model);
    if path.is_dir() {
        return Ok(ModelSource::in_directory(&path)?);
    }
    let ending = path.extension().and_then(|ending| ending.to_str());
    if path.is_file()
        && (ending.is_some_and(|it| it.eq_ignore_ascii_case("gguf")) || is_gguf(&path))
    {
        return Ok(ModelSource::Gguf(path));
    }
    let near = match path.exists() {
        true => Vec::new(),
        false => short_names::near(model),
    };
    if model.contains(':') && !model.contains('/') && !path.exists() {
        bail!(
            "{flag}: there is no model of the short name {model}; {}",
            names(&near)
        );
    }
    let found = match ending {
        _ if !path.exists() && !near.is_empty() => {
            bail!("{flag}: {model} does not exist here; {}", names(&near));
        }
        _ if !path.exists() => "does not exist",
        Some("safetensors" | "json") => "is not a directory but one file of a model",
        _ => "is neither a directory nor a GGUF file",
    };
    let kind = match ending {
        Some("gguf") => "GGUF file",
        _ => "model directory",
    };
    bail!(
        "{flag}: {kind} {model} {found}; expected a directory with config.json and model.safetensors, a \
         GGUF file, ORG/NAME on the Hub, or {BUNDLED}"
    )
}

/// Whether a file begins as GGUF files do, whatever it is called.
fn is_gguf(path: &Path) -> bool {
    let mut magic = [0; 4];
    let read = std::fs::File::open(path).and_then(|mut file| file.read_exact(&mut magic));
    read.is_ok() && &magic == b"GGUF"
}

/// What to give in place of a name that is none.
fn names(near: &[&str]) -> String {
    match near {
        [] => "`maitre list --available` tells those there are".to_owned(),
        near => format!(
            "near are {}; `maitre list --available` tells all",
            near.join(", ")
        ),
    }
}

/// The model's name on the Hub, if that is what is meant: what is here already is taken from here.
pub(crate) fn on_hub(flag: &'static str, model: &str) -> Result<Option<HubName>> {
    if model == BUNDLED || Path::new(model).exists() {
        return Ok(None);
    }
    if let Some(short) = short_names::find(model) {
        return Ok(Some(HubName {
            name: short.repository.to_owned(),
            revision: Some(short_names::REVISION.to_owned()),
            gguf: Some(short.file.to_owned()),
        }));
    }
    let mirror = std::env::var("HF_ENDPOINT").ok();
    let mirror = mirror.as_deref().map(str::trim).filter(|at| !at.is_empty());
    Ok(HubName::parse(flag, model, mirror)?)
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

/// Tells, before a model is downloaded by its short name, which one that is and under which terms.
#[cfg(feature = "hub")]
fn tell_licence(model: &str, name: &HubName) {
    let Some(short) = short_names::find(model) else {
        return;
    };
    let revision = name.revision.as_deref();
    if !maitre::hub::has_gguf(&name.name, revision, short.file) {
        tracing::warn!(
            "{} is {} of {} on the Hub, under this licence: {}",
            short.name,
            short.file,
            short.repository,
            short.licence
        );
    }
}

#[cfg(not(feature = "hub"))]
fn tell_licence(_model: &str, _name: &HubName) {}

#[cfg(feature = "hub")]
async fn download(flag: &str, model: &HubName, startup: &Startup) -> Result<ModelSource> {
    let bar = maitre::hub::progress_bar();
    let HubName {
        name,
        revision,
        gguf,
    } = model;
    let (seen, shown) = (bar.clone(), name.clone());
    startup.doing_live(move || match seen.length() {
        None | Some(0) => format!("asking the Hub for {shown}"),
        Some(total) => format!(
            "downloading {shown}: {} of {}",
            HumanBytes(seen.position()),
            HumanBytes(total)
        ),
    });
    let revision = revision.as_deref();
    let found = match gguf {
        None => {
            let found = maitre::hub::resolve(name, revision, &bar).await;
            found.map(ModelSource::Directory)
        }
        Some(format) => {
            let found = maitre::hub::resolve_gguf(name, revision, format, &bar).await;
            found.map(ModelSource::Gguf)
        }
    };
    found
        .with_context(|| format!("{flag} {name} is no directory here, so the Hub was asked for it"))
}

#[cfg(not(feature = "hub"))]
async fn download(flag: &str, model: &HubName, _startup: &Startup) -> Result<ModelSource> {
    let HubName { name, .. } = model;
    bail!("{flag} {name} is no directory here, and this build can't download models")
}
