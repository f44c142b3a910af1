//! Aligned columns on stdout.

/// Prints `rows` under `header`, every column as wide as its widest cell; the first column is
/// aligned to the left, the others to the right.
pub fn print(header: &[&str], rows: &[Vec<String>]) {
    let header: Vec<String> = header.iter().map(ToString::to_string).collect();
    let width = |column: usize| {
        let cells = std::iter::once(&header)
            .chain(rows)
            .filter_map(|row| row.get(column));
        cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..header.len()).map(width).collect();
    let line = |cells: &[String]| {
        let padded = cells
            .iter()
            .zip(&widths)
            .enumerate()
            .map(|(column, (cell, &width))| {
                if column == 0 {
                    format!("{cell:<width$}")
                } else {
                    format!("{cell:>width$}")
                }
            });
        println!("  {}", padded.collect::<Vec<_>>().join("  ").trim_end());
    };
    line(&header);
    line(
        &widths
            .iter()
            .map(|&width| "─".repeat(width))
            .collect::<Vec<_>>(),
    );
    for row in rows {
        line(row);
    }
    println!();
}
