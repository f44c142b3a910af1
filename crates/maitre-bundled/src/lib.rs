//! The bundled chat model and its draft, as bytes.
