//! Argument checks that all operators share, and the wording of their complaints.

use std::fmt::{self, Display};

use crate::cache::CellOrder;
use crate::format::InputFormat;
use crate::input::LinearInput;
use crate::{Buffer, DType, LayerCache, TensorError};

/// The operator whose arguments are checked.
#[derive(Clone, Copy)]
pub(crate) struct Check(pub(crate) &'static str);

impl Check {
    /// The first `rows * cols` numbers of an f32 buffer.
    pub(super) fn matrix<'b>(
        self,
        argument: &'static str,
        buffer: &'b Buffer,
        rows: usize,
        cols: usize,
    ) -> Result<&'b [f32], TensorError> {
        let needed = self.space(argument, buffer, rows, cols)?;
        Ok(&buffer.f32s()?[..needed])
    }

    /// The first `rows * cols` numbers of an f32 buffer, to be written.
    pub(super) fn matrix_mut<'b>(
        self,
        argument: &'static str,
        buffer: &'b mut Buffer,
        rows: usize,
        cols: usize,
    ) -> Result<&'b mut [f32], TensorError> {
        let needed = self.space(argument, buffer, rows, cols)?;
        Ok(&mut buffer.f32s_mut()?[..needed])
    }

    /// All numbers of an f32 buffer, which must be exactly `len`.
    pub(super) fn vector<'b>(
        self,
        argument: &'static str,
        buffer: &'b Buffer,
        len: usize,
    ) -> Result<&'b [f32], TensorError> {
        if buffer.dtype() != DType::F32 || buffer.len() != len {
            return Err(self.refuse(
                argument,
                format_args!("{len} f32 elements"),
                describe(buffer),
            ));
        }
        buffer.f32s()
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
        input.memory().require_host(self.0, argument)?;
        let fits = input.format() == format && input.cols() == cols && input.rows() >= rows;
        let expected = format_args!("at least [{rows}, {cols}] {format} activations");
        let (has_rows, has_cols, has) = (input.rows(), input.cols(), input.format());
        let actual = format_args!("[{has_rows}, {has_cols}] {has} activations");
        self.rule(fits, argument, expected, actual)
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

    /// That `indices` are below `limit`.
    pub(crate) fn indices(
        self,
        argument: &'static str,
        indices: &[u32],
        limit: usize,
    ) -> Result<(), TensorError> {
        self.indices_from(argument, indices, 0, limit)
    }

    /// That `indices`, without the first `skipped`, are below `limit`.
    pub(super) fn indices_from(
        self,
        argument: &'static str,
        indices: &[u32],
        skipped: usize,
        limit: usize,
    ) -> Result<(), TensorError> {
        let beyond = |index: &u32| *index as usize >= limit;
        match indices.iter().skip(skipped).position(beyond) {
            None => Ok(()),
            Some(at) => Err(TensorError::Index {
                operator: self.0,
                argument,
                at: skipped + at,
                value: indices[skipped + at],
                limit,
            }),
        }
    }

    /// That a rule about an argument holds.
    pub(crate) fn rule(
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

    fn space(
        self,
        argument: &'static str,
        buffer: &Buffer,
        rows: usize,
        cols: usize,
    ) -> Result<usize, TensorError> {
        rows.checked_mul(cols)
            .filter(|&needed| buffer.dtype() == DType::F32 && needed <= buffer.len())
            .ok_or_else(|| {
                let expected = format_args!("at least [{rows}, {cols}] f32 elements");
                self.refuse(argument, expected, describe(buffer))
            })
    }

    fn refuse(
        self,
        argument: &'static str,
        expected: impl Display,
        actual: impl Display,
    ) -> TensorError {
        TensorError::Argument {
            operator: self.0,
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

/// That a cache holds heads of this number and size.
pub(crate) fn check_shape(
    check: Check,
    cache: &LayerCache,
    kv_heads: usize,
    head_dim: usize,
) -> Result<(), TensorError> {
    check.rule(
        (cache.kv_heads(), cache.head_dim()) == (kv_heads, head_dim),
        "cache",
        format_args!("{kv_heads} heads of {head_dim} elements"),
        format_args!("{} heads of {}", cache.kv_heads(), cache.head_dim()),
    )
}

/// That the processor's kernels can read a cache: not a GPU's, nor one on the host that is ordered like it.
pub(super) fn check_lanes(
    check: Check,
    argument: &'static str,
    cache: &LayerCache,
) -> Result<(), TensorError> {
    check.rule(
        cache.order() == CellOrder::Lanes,
        argument,
        "a cache of the backend that runs the operator",
        "one of a GPU's backend",
    )
}
