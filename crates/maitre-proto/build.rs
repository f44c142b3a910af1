//! Compiles `proto/` in pure Rust: protox parses, tonic-prost-build generates. No `protoc` needed.

use std::error::Error;
use std::path::{Path, PathBuf};
use std::{env, fs};

use prost::Message as _;

const FILES: [&str; 2] = ["maitre/v1/generation.proto", "maitre/v1/admin.proto"];

fn main() -> Result<(), Box<dyn Error>> {
    let root = Path::new(&env::var("CARGO_MANIFEST_DIR")?).join("../../proto");
    println!("cargo::rerun-if-changed={}", root.join("maitre").display());

    let descriptors = protox::compile(FILES, [&root])?;
    let out = PathBuf::from(env::var("OUT_DIR")?).join("maitre.v1.descriptors.bin");
    fs::write(out, descriptors.encode_to_vec())?;

    tonic_prost_build::configure()
        // A map in key order makes everything derived from a request reproducible.
        .btree_map(".maitre.v1")
        .compile_fds(descriptors)?;
    Ok(())
}
