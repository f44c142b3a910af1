//! Argument checks that all operators share, and the wording of their complaints.

use std::fmt::{self, Display};

use super::Backend;
use crate::cache::CellOrder;
use crate::format::InputFormat;
use crate::gpu::Device;
use crate::input::LinearInput;
use crate::memory::Memory;
use crate::{Buffer, DType, LayerCache, TensorError};

/// The operator whose arguments are checked, and where it runs.
#[derive(Clone, Copy)]
pub(super) struct Check<'b> {
    operator: &'static str,
    device: Option<&'b Device>,
}

impl Backend {
    pub(super) fn check(&self, operator: &'static str) -> Check<'_> {
        Check {
            operator,
            device: self.device(),
        }
    }
}

impl Check<'_> {
    /// That memory lies where the operator runs.
    pub(super) fn place(self, argument: &'static str, memory: &Memory) -> Result<(), TensorError> {
        match self.device {
            Some(device) => memory
                .device(self.operator, argument, device.gpu())
                .map(drop),
            None => memory.require_host(self.operator, argument),
        }
    }

    /// That an f32 buffer holds at least `rows * cols` numbers.
    pub(super) fn matrix(
        self,
        argument: &'static str,
        buffer: &Buffer,
        rows: usize,
        cols: usize,
    ) -> Result<(), TensorError> {
        let needed = rows.checked_mul(cols);
        let fits =
            needed.is_some_and(|needed| buffer.dtype() == DType::F32 && needed <= buffer.len());
        let expected = format_args!("at least [{rows}, {cols}] f32 elements");
        self.rule(fits, argument, expected, describe(buffer))?;
        self.place(argument, buffer.memory())
    }

    /// That an f32 buffer holds exactly `len` numbers.
    pub(super) fn vector(
        self,
        argument: &'static str,
        buffer: &Buffer,
        len: usize,
    ) -> Result<(), TensorError> {
        let fits = buffer.dtype() == DType::F32 && buffer.len() == len;
        let expected = format_args!("{len} f32 elements");
        self.rule(fits, argument, expected, describe(buffer))?;
        self.place(argument, buffer.memory())
    }

    /// That an input has the form, the width and at least the rows that are needed.
    pub(super) fn input(
        self,
        argument: &'static str,
        input: &LinearInput,
        format: InputFormat,
        cols: usize,
        rows: usize,
    ) -> Result<(), TensorError> {
        let fits = input.format() == format && input.cols() == cols && input.rows() >= rows;
        let expected = format_args!("at least [{rows}, {cols}] {format} activations");
        let (has_rows, has_cols, has) = (input.rows(), input.cols(), input.format());
        let actual = format_args!("[{has_rows}, {has_cols}] {has} activations");
        self.rule(fits, argument, expected, actual)?;
        self.place(argument, input.memory())
    }

    /// That an input has the width and at least the rows that are needed, in whatever form.
    pub(super) fn any_input(
        self,
        argument: &'static str,
        input: &LinearInput,
        cols: usize,
        rows: usize,
    ) -> Result<(), TensorError> {
        self.input(argument, input, input.format(), cols, rows)
    }

    /// That a cache is of this number and size of heads, and lies where the operator runs.
    pub(super) fn cache(
        self,
        cache: &LayerCache,
        kv_heads: usize,
        head_dim: usize,
    ) -> Result<(), TensorError> {
        self.rule(
            (cache.kv_heads(), cache.head_dim()) == (kv_heads, head_dim),
            "cache",
            format_args!("{kv_heads} heads of {head_dim} elements"),
            format_args!("{} heads of {}", cache.kv_heads(), cache.head_dim()),
        )?;
        self.cache_place("cache", cache)
    }

    /// That a cache lies where the operator runs, or one on the host does that is ordered like the operator's.
    pub(super) fn cache_place(
        self,
        argument: &'static str,
        cache: &LayerCache,
    ) -> Result<(), TensorError> {
        match self.device {
            Some(_) => self.place(argument, cache.memory()),
            // A cache in host memory may be ordered as a GPU keeps it.
            None => self.rule(
                cache.order() == CellOrder::Lanes,
                argument,
                "a cache of the backend that runs the operator",
                "one of a GPU's backend",
            ),
        }
    }

    /// That a cache lies where the operator runs, or on the host in the order in which its device keeps blocks.
    pub(super) fn reachable(
        self,
        argument: &'static str,
        cache: &LayerCache,
    ) -> Result<(), TensorError> {
        if self.device.is_some() && cache.order() == CellOrder::Rows && cache.memory().is_on_host()
        {
            return Ok(());
        }
        self.cache_place(argument, cache)
    }

    /// That numbers, each with its place in the argument, are below `limit`.
    pub(super) fn each_below(
        self,
        argument: &'static str,
        mut numbered: impl Iterator<Item = (usize, u32)>,
        limit: usize,
    ) -> Result<(), TensorError> {
        match numbered.find(|(_, value)| *value as usize >= limit) {
            None => Ok(()),
            Some((at, value)) => Err(TensorError::Index {
                operator: self.operator,
                argument,
                at,
                value,
                limit,
            }),
        }
    }

    /// That `indices` are below `limit`.
    pub(super) fn indices(
        self,
        argument: &'static str,
        indices: &[u32],
        limit: usize,
    ) -> Result<(), TensorError> {
        self.each_below(argument, indices.iter().copied().enumerate(), limit)
    }

    /// That a rule about an argument holds.
    pub(super) fn rule(
        self,
        holds: bool,
        argument: &'static str,
        expected: impl Display,
        actual: impl Display,
    ) -> Result<(), TensorError> {
        if holds {
            Ok(())
        } else {
            Err(self.refuse(argument, expected, actual))
        }
    }

    fn refuse(
        self,
        argument: &'static str,
        expected: impl Display,
        actual: impl Display,
    ) -> TensorError {
        TensorError::Argument {
            operator: self.operator,
            argument,
            expected: expected.to_string(),
            actual: actual.to_string(),
        }
    }
}

/// A buffer in an error message; written out only if there is one.
pub(super) fn describe(buffer: &Buffer) -> impl Display + '_ {
    fmt::from_fn(|f| write!(f, "{} {} elements", buffer.len(), buffer.dtype()))
}
