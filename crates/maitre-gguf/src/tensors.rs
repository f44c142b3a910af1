//! The tensors of a file, and that they can be where it says.

use std::collections::HashSet;
use std::ops::Range;

use crate::cursor::Cursor;
use crate::{GgufError, TensorKind};

/// As in ggml: no tensor has more.
const MOST_DIMENSIONS: u32 = 4;

/// Fewest bytes of an entry: the length of a name, one size, kind and offset.
const LEAST_BYTES: usize = 8 + 4 + 8 + 4 + 8;

/// What a file says of one tensor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TensorEntry {
    /// Its name.
    pub name: String,
    /// Sizes of its dimensions, outermost first; the file has them the other way round.
    pub shape: Vec<usize>,
    /// How its numbers are kept. Each row, along the last dimension, is a whole number of blocks.
    pub kind: TensorKind,
    /// Where its bytes lie in the file.
    pub place: Range<usize>,
}

impl TensorEntry {
    /// Numbers in it.
    #[must_use]
    pub fn len(&self) -> usize {
        // Not by the shape: if one size is 0, the others may be anything, also more than can be multiplied.
        self.place.len() / self.kind.block_bytes() * self.kind.block_len()
    }

    /// Whether it has none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// An entry before it is known where the data begin: offset from there, and size in bytes.
type Placed = (TensorEntry, u64, usize);

/// Reads `count` entries, then finds their places behind the padding.
pub(crate) fn read(
    cursor: &mut Cursor<'_>,
    count: u64,
    alignment: usize,
    file_len: usize,
) -> Result<Vec<TensorEntry>, GgufError> {
    let count = cursor.expect(count, LEAST_BYTES, || {
        format!("the list of {count} tensors")
    })?;
    let mut entries = Vec::with_capacity(count);
    let mut names = HashSet::new();
    for number in 0..count {
        let entry = read_entry(cursor, number)?;
        if !names.insert(entry.0.name.clone()) {
            return Err(GgufError::Twice {
                name: format!("the tensor {}", entry.0.name),
            });
        }
        entries.push(entry);
    }
    let data = cursor.position().next_multiple_of(alignment);
    let entries = entries
        .into_iter()
        .map(|placed| place(placed, data, alignment, file_len));
    let entries: Vec<TensorEntry> = entries.collect::<Result<_, _>>()?;
    check_apart(&entries)?;
    Ok(entries)
}

fn read_entry(cursor: &mut Cursor<'_>, number: usize) -> Result<Placed, GgufError> {
    let name = cursor
        .text(|| format!("the name of tensor {number}"))?
        .to_owned();
    let what = || format!("the entry of tensor {name}");
    let refuse = |problem: String| GgufError::Tensor {
        tensor: name.clone(),
        problem,
    };
    let dimensions = cursor.u32(what)?;
    if dimensions == 0 || dimensions > MOST_DIMENSIONS {
        let problem =
            format!("has {dimensions} dimensions, and 1 to {MOST_DIMENSIONS} are possible");
        return Err(refuse(problem));
    }
    let mut shape = Vec::with_capacity(dimensions as usize);
    for _ in 0..dimensions {
        let size = cursor.u64(what)?;
        shape.push(usize::try_from(size).map_err(|_| refuse(format!("has a size of {size}")))?);
    }
    let number = cursor.u32(what)?;
    let kind = TensorKind::of_number(number).ok_or_else(|| {
        refuse(format!("is of type {number}, which is not known: this version of the file's format may be newer"))
    })?;
    let offset = cursor.u64(what)?;
    let row = shape.first().copied().unwrap_or(0);
    if !row.is_multiple_of(kind.block_len()) {
        let block = kind.block_len();
        return Err(refuse(format!(
            "has rows of {row} numbers, and {kind} keeps {block} together"
        )));
    }
    let of_row = (row / kind.block_len()).checked_mul(kind.block_bytes());
    let rows = shape.iter().skip(1);
    let bytes = of_row.and_then(|bytes| rows.copied().try_fold(bytes, usize::checked_mul));
    let bytes = bytes.ok_or_else(|| {
        refuse(format!(
            "has sizes {shape:?}, more than memory has addresses"
        ))
    })?;
    shape.reverse();
    let entry = TensorEntry {
        name,
        shape,
        kind,
        place: 0..0,
    };
    Ok((entry, offset, bytes))
}

fn place(
    (mut entry, offset, bytes): Placed,
    data: usize,
    alignment: usize,
    file_len: usize,
) -> Result<TensorEntry, GgufError> {
    let refuse = |problem: String| GgufError::Tensor {
        tensor: entry.name.clone(),
        problem,
    };
    if !offset.is_multiple_of(alignment as u64) {
        return Err(refuse(format!(
            "begins at offset {offset}, no multiple of {alignment}"
        )));
    }
    let begin = usize::try_from(offset)
        .ok()
        .and_then(|offset| offset.checked_add(data));
    let place = begin.and_then(|begin| Some(begin..begin.checked_add(bytes)?));
    let Some(place) = place.filter(|place| place.end <= file_len) else {
        return Err(GgufError::Truncated {
            what: format!("the tensor {}", entry.name),
            position: begin.unwrap_or(usize::MAX),
            needed: bytes as u64,
            len: file_len,
        });
    };
    entry.place = place;
    Ok(entry)
}

/// That no two tensors share a byte.
fn check_apart(entries: &[TensorEntry]) -> Result<(), GgufError> {
    let mut by_place: Vec<&TensorEntry> = entries.iter().filter(|it| !it.is_empty()).collect();
    by_place.sort_unstable_by_key(|it| it.place.start);
    for pair in by_place.windows(2) {
        if let [first, second] = pair
            && first.place.end > second.place.start
        {
            return Err(GgufError::Tensor {
                tensor: second.name.clone(),
                problem: format!(
                    "begins within {}, at byte {}",
                    first.name, second.place.start
                ),
            });
        }
    }
    Ok(())
}
