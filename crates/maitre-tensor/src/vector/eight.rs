//! Kernels for registers of eight numbers, a half of a panel's row.
//!
//! What differs between instruction sets is [`isa`]: the registers, how bytes are multiplied, how many sums the registers
//! hold. All sums run in the same order everywhere. Numbers of 32 bits are multiplied and added with one rounding, and
//! sums of integers are exact, so one instruction set gives the bits of the other; tests hold each against the portable
//! kernels.
//!
//! Most functions are unsafe, since they need instructions that not every processor has. They are reached through the
//! table of an instruction set, which is handed out after the processor was asked.

mod ahead;
mod attention;
mod cached;
mod dot;
mod exp;
mod floats;
mod linear;
mod quantized;
mod query;
mod rows;
mod softmax;

#[cfg(target_arch = "aarch64")]
pub(crate) use crate::arm as isa;
#[cfg(target_arch = "x86_64")]
pub(crate) use crate::x86::avx2 as isa;

pub(crate) use ahead::fetch;
pub(crate) use attention::{attend, weight_words};
pub(crate) use dot::{ByteSums, Dot};
#[cfg(target_arch = "x86_64")]
pub(crate) use dot::{split_bf16, split_int8, widen};
pub(crate) use linear::{linear, tile};
#[cfg(target_arch = "x86_64")]
pub(crate) use quantized::{Bytes, Int4Groups, Int8Groups};
pub(crate) use query::{load_query, query_words};
pub(crate) use rows::encode;
