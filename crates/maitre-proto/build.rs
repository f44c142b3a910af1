//! Compiles `proto/` in pure Rust: protox parses, tonic-prost-build generates. No `protoc` needed.

use std::collections::BTreeSet;
use std::error::Error;
use std::path::{Path, PathBuf};
use std::{env, fs};

use prost::Message as _;
use prost_types::FileDescriptorSet;

const FILES: [&str; 2] = ["maitre/v1/generation.proto", "maitre/v1/admin.proto"];

fn main() -> Result<(), Box<dyn Error>> {
    let root = Path::new(&env::var("CARGO_MANIFEST_DIR")?).join("../../proto");
    println!("cargo::rerun-if-changed={}", root.join("maitre").display());

    let descriptors = protox::compile(FILES, [&root])?;
    let out = PathBuf::from(env::var("OUT_DIR")?);
    let encoded = out.join("maitre.v1.descriptors.bin");
    fs::write(encoded, descriptors.encode_to_vec())?;

    // The messages and the clients.
    tonic_prost_build::configure()
        // A map in key order makes everything derived from a request reproducible.
        .btree_map(".maitre.v1")
        .build_server(false)
        .compile_fds(descriptors.clone())?;
    // The servers, of the same messages. Requests come to them encoded.
    let servers = out.join("servers");
    fs::create_dir_all(&servers)?;
    let mut generator = tonic_prost_build::configure()
        .build_client(false)
        .codec_path("crate::codec::ServerCodec")
        .extern_path(".maitre.v1", "crate::v1")
        .out_dir(servers);
    for request in requests(&descriptors) {
        let message = request.trim_start_matches(".maitre.v1.");
        let encoded = format!("crate::codec::Encoded<crate::v1::{message}>");
        generator = generator.extern_path(request, encoded);
    }
    generator.compile_fds(descriptors)?;
    Ok(())
}

/// The names of all messages that are requests.
fn requests(descriptors: &FileDescriptorSet) -> BTreeSet<String> {
    let services = descriptors.file.iter().flat_map(|file| &file.service);
    let methods = services.flat_map(|service| &service.method);
    methods.map(|it| it.input_type().to_owned()).collect()
}
