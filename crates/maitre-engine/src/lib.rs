//! The step loop that binds model, scheduler, sampling and text, and its async handle.
