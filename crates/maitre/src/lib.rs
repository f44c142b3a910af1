//! The Maitre serving engine: facade library and binary.
