//! The gRPC front: `maitre.v1`, `grpc.health.v1`, and reflection v1 and v1alpha.
//!
//! It only translates. `calls` stands before all services and turns what came beside a message (path, headers) into a
//! call that the [`Service`] lets in; `generation` and `admin` decode messages, call the service and encode what comes
//! of it by `convert`; `status` makes a status of an [`ApiError`].

mod admin;
mod cache_events;
pub(crate) mod calls;
mod convert;
mod generation;
mod health;
pub(crate) mod methods;
pub(crate) mod status;
mod timeout;

use maitre_proto::FILE_DESCRIPTOR_SET;
use maitre_proto::codec::Encoded;
use maitre_proto::v1::admin_service_server::AdminServiceServer;
use maitre_proto::v1::generation_service_server::GenerationServiceServer;
use prost::Message;
use tokio::sync::watch;
use tonic::service::Routes;
use tonic_health::pb::health_server::HealthServer;
use tonic_health::server::{HealthReporter, HealthService};

use crate::service::Service;
use crate::service::api_error::ApiError;
use crate::{ServerError, Startup};
use admin::Admin;
use calls::Calls;
use generation::Generations;
use methods::Methods;

/// The front of a server.
#[derive(Debug)]
pub(crate) struct Front {
    pub(crate) calls: Calls,
    reporter: HealthReporter,
}

impl Front {
    /// The front of a service.
    pub(crate) fn new(service: &Service) -> Result<Self, ServerError> {
        let reporter = HealthReporter::new();
        let methods = Methods::from_descriptors(&[
            FILE_DESCRIPTOR_SET,
            tonic_health::pb::FILE_DESCRIPTOR_SET,
            tonic_reflection::pb::v1::FILE_DESCRIPTOR_SET,
            tonic_reflection::pb::v1alpha::FILE_DESCRIPTOR_SET,
        ])?;
        let calls = Calls::new(routes(service, &reporter)?, methods, service.clone());
        Ok(Self { calls, reporter })
    }

    /// Tells those who ask for health whether the server is ready.
    pub(crate) async fn set_health(&self, ready: bool) {
        health::set(&self.reporter, ready).await;
    }

    /// Keeps them told until dropped; at once when `draining` becomes true or the engine arrives.
    pub(crate) fn report_health(
        &self,
        startup: Startup,
        draining: watch::Receiver<bool>,
    ) -> impl Future<Output = ()> + Send + use<> {
        health::report(startup, self.reporter.clone(), draining)
    }
}

/// Everything that a call can reach.
fn routes(service: &Service, reporter: &HealthReporter) -> Result<Routes, ServerError> {
    let described = || {
        tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(FILE_DESCRIPTOR_SET)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
    };
    let unusable = |error: tonic_reflection::server::Error| ServerError::Descriptors {
        message: error.to_string(),
    };
    let health = HealthServer::new(HealthService::from_health_reporter(reporter.clone()));
    let max_message_bytes = service.limits().max_message_bytes;
    let generation = GenerationServiceServer::new(Generations::new(service.clone()))
        .max_decoding_message_size(max_message_bytes);
    let admin = AdminServiceServer::new(Admin::new(service.clone()))
        .max_decoding_message_size(max_message_bytes);
    Ok(Routes::new(health)
        .add_service(described().build_v1().map_err(unusable)?)
        .add_service(described().build_v1alpha().map_err(unusable)?)
        .add_service(generation)
        .add_service(admin))
}

/// A message as it came, decoded.
fn decoded<M: Message + Default>(message: Encoded<M>) -> Result<M, ApiError> {
    let message = message.decode();
    message.map_err(|error| status::malformed_message(&error.to_string()))
}
