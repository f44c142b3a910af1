//! What every protocol of this server shares. Nothing here knows protobuf or HTTP.

pub(crate) mod startup;
