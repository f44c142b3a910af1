//! The methods this server has, so that metrics are labelled by known names only: a caller who
//! makes up method names must not make up time series.

use std::collections::HashMap;
use std::sync::Arc;

use prost::Message as _;
use prost_types::FileDescriptorSet;

use crate::ServerError;

/// The package whose calls do work, as opposed to watching and describing.
const OWN_PACKAGE: &str = "maitre.v1";

/// One method, as metrics and limits see it.
#[derive(Debug, Clone)]
pub(crate) struct Method {
    /// `package.Service/Method`, or `unknown`.
    pub(crate) name: Arc<str>,
    /// Whether it counts as a call in progress. Health watches and reflection streams, which
    /// last as long as their clients like, do not.
    pub(crate) counts: bool,
    /// Whether there is such a method.
    pub(crate) is_known: bool,
}

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
                        let name =
                            format!("{}.{}/{}", file.package(), service.name(), method.name());
                        let counts = file.package() == OWN_PACKAGE;
                        by_path.insert(
                            format!("/{name}"),
                            Method {
                                name: Arc::from(name),
                                counts,
                                is_known: true,
                            },
                        );
                    }
                }
            }
        }
        let unknown = Method {
            name: Arc::from("unknown"),
            counts: true,
            is_known: false,
        };
        Ok(Self { by_path, unknown })
    }

    pub(crate) fn of(&self, path: &str) -> Method {
        self.by_path.get(path).unwrap_or(&self.unknown).clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_real_methods_have_names_and_only_our_own_count() {
        let sets = [
            maitre_proto::FILE_DESCRIPTOR_SET,
            tonic_health::pb::FILE_DESCRIPTOR_SET,
        ];
        let methods = Methods::from_descriptors(&sets).unwrap();
        let of = |path: &str| {
            let method = methods.of(path);
            (method.name.to_string(), method.counts)
        };
        let chat = "maitre.v1.GenerationService/StreamChat";
        assert_eq!(of(&format!("/{chat}")), (chat.to_owned(), true));
        let watch = "grpc.health.v1.Health/Watch";
        assert_eq!(of(&format!("/{watch}")), (watch.to_owned(), false));
        assert_eq!(
            of("/maitre.v1.GenerationService/MadeUp"),
            ("unknown".to_owned(), true)
        );
        assert_eq!(of(""), ("unknown".to_owned(), true));
    }
}
