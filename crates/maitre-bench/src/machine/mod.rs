//! What the machine tells of a run: processor time of this process, and energy.

mod cpu;
mod energy;

pub(crate) use cpu::cpu_seconds;
pub(crate) use energy::EnergyMeter;
