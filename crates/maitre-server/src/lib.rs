//! gRPC and HTTP front ends of the engine.
