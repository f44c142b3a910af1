//! The operators at the shapes of a small (0.6B) model, and a whole step of it, beside the limits of
//! the machine: `cargo xtask bench kernels`.
#![allow(clippy::print_stdout, reason = "a command-line tool talks on stdout")]

mod attention;
mod data;
mod linear;
mod model;
mod rows;
mod sampling;
mod step;
mod verify;

use anyhow::Result;
use maitre_benches::Bench;

fn main() -> Result<()> {
    let mut bench = Bench::from_args()?;
    for group in [
        linear::measure,
        attention::measure,
        rows::measure,
        sampling::measure,
        step::measure,
        verify::measure,
    ] {
        bench.refresh_limits()?;
        group(&mut bench)?;
    }
    bench.refresh_limits()?;
    bench.finish();
    println!("\n{}", bench.table());
    Ok(())
}
