//! This crate holds the generated gRPC types, clients and servers of Maitre's API; it is the only place where
//! protobuf is compiled.
//!
//! The contract itself, with the meaning, unit, default and range of every field, is in
//! `proto/maitre/v1/*.proto`; the build script compiles it without `protoc`. Conversions between
//! these messages and the engine's types live in the server, so that a client needs this crate and
//! nothing else of Maitre.
//!
//! This crate must never know about anything else: no engine, no server, no defaults filled in.
//!
//! # Example
//!
//! ```
//! use maitre_proto::v1::{GenerateRequest, SamplingParams, generate_request::Input};
//!
//! let request = GenerateRequest {
//!     input: Some(Input::Text("Once upon a time".into())),
//!     sampling: Some(SamplingParams { temperature: Some(0.0), ..Default::default() }),
//!     ..Default::default()
//! };
//! assert_eq!(request.sampling.and_then(|sampling| sampling.top_p), None);
//! ```
//!
//! A client is `v1::generation_service_client::GenerationServiceClient::connect(url)`.

pub mod codec;

/// Package `maitre.v1`: `GenerationService`, `AdminService` and their messages.
// The comments of the generated items are those of the proto files; what the code generator adds
// beside them is outside our hands.
#[allow(missing_docs, unused_qualifications, clippy::all, clippy::pedantic)]
pub mod v1 {
    tonic::include_proto!("maitre.v1");
    include!(concat!(env!("OUT_DIR"), "/servers/maitre.v1.rs"));
}

/// The encoded `google.protobuf.FileDescriptorSet` of `maitre.v1` and all it imports, for gRPC
/// reflection.
pub const FILE_DESCRIPTOR_SET: &[u8] =
    include_bytes!(concat!(env!("OUT_DIR"), "/maitre.v1.descriptors.bin"));
