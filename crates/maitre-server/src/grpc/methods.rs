//! The methods this server has, so that metrics are labelled by known names only: a caller who
//! makes up method names must not make up time series.

use std::collections::HashMap;
use std::sync::Arc;

use prost::Message as _;
use prost_types::{FileDescriptorSet, MethodDescriptorProto};

use crate::ServerError;
use crate::metrics::GRPC;
use crate::service::admission::Method;
use crate::service::call_pools::Class;

/// The package whose methods need an engine.
const OWN_PACKAGE: &str = "maitre.v1";
/// The service whose calls do work, as opposed to asking, watching and describing ...
const WORKING_SERVICE: &str = "maitre.v1.GenerationService";
/// ... apart from these, which answer from what is known.
const ASKING_METHODS: [&str; 3] = ["Abort", "ListModels", "GetModel"];
const HEALTH_SERVICE: &str = "grpc.health.v1.Health";

/// Every method by its path, `/package.Service/Method`.
#[derive(Debug)]
pub(crate) struct Methods {
    by_path: HashMap<String, Method>,
    unknown: Method,
}

impl Methods {
    /// Reads the methods out of encoded descriptor sets.
    pub(crate) fn from_descriptors(sets: &[&[u8]]) -> Result<Self, ServerError> {
        let mut by_path = HashMap::new();
        for set in sets {
            let set =
                FileDescriptorSet::decode(*set).map_err(|error| ServerError::Descriptors {
                    message: error.to_string(),
                })?;
            for file in &set.file {
                for service in &file.service {
                    for method in &service.method {
                        let service = format!("{}.{}", file.package(), service.name());
                        let name = format!("{service}/{}", method.name());
                        by_path.insert(
                            format!("/{name}"),
                            Method {
                                name: Arc::from(name),
                                family: &GRPC,
                                class: class_of(&service, method),
                                needs_engine: file.package() == OWN_PACKAGE,
                            },
                        );
                    }
                }
            }
        }
        let unknown = Method {
            name: Arc::from("unknown"),
            family: &GRPC,
            class: Class::Control,
            needs_engine: false,
        };
        Ok(Self { by_path, unknown })
    }

    /// The same methods, answered by something that needs no engine.
    #[cfg(test)]
    pub(crate) fn without_engine(mut self) -> Self {
        for method in self.by_path.values_mut() {
            method.needs_engine = false;
        }
        self
    }

    pub(crate) fn of(&self, path: &str) -> Method {
        self.by_path.get(path).unwrap_or(&self.unknown).clone()
    }
}

fn class_of(service: &str, method: &MethodDescriptorProto) -> Class {
    if method.client_streaming() {
        return Class::Reflection;
    }
    if service == WORKING_SERVICE && !ASKING_METHODS.contains(&method.name()) {
        return Class::Work;
    }
    match (method.server_streaming(), service) {
        (true, _) => Class::Watch,
        (false, HEALTH_SERVICE) => Class::Health,
        (false, _) => Class::Control,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_real_methods_have_names_and_each_has_its_class() {
        let sets = [
            maitre_proto::FILE_DESCRIPTOR_SET,
            tonic_health::pb::FILE_DESCRIPTOR_SET,
            tonic_reflection::pb::v1::FILE_DESCRIPTOR_SET,
            tonic_reflection::pb::v1alpha::FILE_DESCRIPTOR_SET,
        ];
        let methods = Methods::from_descriptors(&sets).unwrap();
        let classes = [
            ("maitre.v1.GenerationService/Generate", Class::Work),
            ("maitre.v1.GenerationService/StreamGenerate", Class::Work),
            ("maitre.v1.GenerationService/Chat", Class::Work),
            ("maitre.v1.GenerationService/StreamChat", Class::Work),
            ("maitre.v1.GenerationService/Tokenize", Class::Work),
            ("maitre.v1.GenerationService/Detokenize", Class::Work),
            ("maitre.v1.GenerationService/Abort", Class::Control),
            ("maitre.v1.GenerationService/ListModels", Class::Control),
            ("maitre.v1.GenerationService/GetModel", Class::Control),
            ("maitre.v1.AdminService/GetLoad", Class::Control),
            ("maitre.v1.AdminService/GetServerInfo", Class::Control),
            ("maitre.v1.AdminService/ResetPrefixCache", Class::Control),
            ("maitre.v1.AdminService/WatchCacheEvents", Class::Watch),
            ("grpc.health.v1.Health/Check", Class::Health),
            ("grpc.health.v1.Health/Watch", Class::Watch),
            (
                "grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
                Class::Reflection,
            ),
            (
                "grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
                Class::Reflection,
            ),
        ];
        for (name, class) in classes {
            let method = methods.of(&format!("/{name}"));
            assert_eq!((&*method.name, method.class), (name, class));
        }
        for unknown in ["/maitre.v1.GenerationService/MadeUp", ""] {
            assert_eq!(&*methods.of(unknown).name, "unknown");
        }
    }
}
