//! Generated gRPC types, clients and servers.
