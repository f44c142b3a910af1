//! What the contract promises about itself, checked on the compiled descriptors.
#![allow(clippy::unwrap_used)]

use maitre_proto::FILE_DESCRIPTOR_SET;
use prost::Message as _;
use prost_types::{FileDescriptorProto, FileDescriptorSet};

fn our_files() -> Vec<FileDescriptorProto> {
    let set = FileDescriptorSet::decode(FILE_DESCRIPTOR_SET).unwrap();
    set.file
        .into_iter()
        .filter(|file| file.package() == "maitre.v1")
        .collect()
}

#[test]
fn every_rpc_has_its_own_request_and_response() {
    for file in our_files() {
        for method in file.service.iter().flat_map(|service| &service.method) {
            let name = method.name();
            assert_eq!(method.input_type(), format!(".maitre.v1.{name}Request"));
            assert_eq!(method.output_type(), format!(".maitre.v1.{name}Response"));
        }
    }
}

#[test]
fn the_services_offer_what_the_interface_page_lists() {
    let offered: Vec<String> = our_files()
        .iter()
        .flat_map(|file| &file.service)
        .flat_map(|service| {
            service
                .method
                .iter()
                .map(|method| format!("{}/{}", service.name(), method.name()))
        })
        .collect();
    assert_eq!(
        offered,
        [
            "GenerationService/Generate",
            "GenerationService/StreamGenerate",
            "GenerationService/Chat",
            "GenerationService/StreamChat",
            "GenerationService/Tokenize",
            "GenerationService/Detokenize",
            "GenerationService/Abort",
            "GenerationService/ListModels",
            "GenerationService/GetModel",
            "AdminService/GetServerInfo",
            "AdminService/GetLoad",
            "AdminService/ResetPrefixCache",
            "AdminService/WatchCacheEvents",
        ]
    );
}

/// Whatever can be asked for whole can be asked for as a stream, under the same numbers; and a number that was
/// promised to something is not given to anything else.
#[test]
fn a_streamed_request_is_the_whole_one() {
    let files = our_files();
    let message = |name: &str| {
        let mut messages = files.iter().flat_map(|file| &file.message_type);
        messages.find(|message| message.name() == name).unwrap()
    };
    for kind in ["Generate", "Chat"] {
        let whole = message(&format!("{kind}Request"));
        let streamed = message(&format!("Stream{kind}Request"));
        assert_eq!(whole.field, streamed.field, "{kind}");
        for message in [whole, streamed] {
            let reserved: Vec<_> = message
                .reserved_range
                .iter()
                .flat_map(|range| range.start()..range.end())
                .collect();
            assert_eq!(reserved, [10], "{}", message.name());
            let constraint = message.field.iter().find(|field| field.number() == 9);
            assert_eq!(constraint.unwrap().name(), "constraint");
            let speculation = message.field.iter().find(|field| field.number() == 12);
            assert_eq!(speculation.unwrap().name(), "speculation");
        }
    }
}

/// Tools that show the API through reflection have the comments too.
#[test]
fn every_message_field_and_enum_value_has_a_comment() {
    for file in our_files() {
        let commented: Vec<Vec<i32>> = file
            .source_code_info
            .iter()
            .flat_map(|info| &info.location)
            .filter(|location| !location.leading_comments().trim().is_empty())
            .map(|location| location.path.clone())
            .collect();
        let check = |path: Vec<i32>, name: String| {
            assert!(
                commented.contains(&path),
                "{}: {name} has no comment",
                file.name()
            );
        };
        // Field numbers of FileDescriptorProto: 4 message_type, 5 enum_type, 6 service;
        // of DescriptorProto: 2 field; of EnumDescriptorProto and ServiceDescriptorProto: 2.
        for (m, message) in (0..).zip(&file.message_type) {
            check(vec![4, m], message.name().to_owned());
            for (f, field) in (0..).zip(&message.field) {
                check(
                    vec![4, m, 2, f],
                    format!("{}.{}", message.name(), field.name()),
                );
            }
        }
        for (e, enumeration) in (0..).zip(&file.enum_type) {
            for (v, value) in (0..).zip(&enumeration.value) {
                check(vec![5, e, 2, v], value.name().to_owned());
            }
        }
        for (s, service) in (0..).zip(&file.service) {
            for (m, method) in (0..).zip(&service.method) {
                check(vec![6, s, 2, m], method.name().to_owned());
            }
        }
    }
}
