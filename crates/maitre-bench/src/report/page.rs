//! A report as a page: Markdown, and one HTML file that needs no other.

use std::fmt::Write;

use super::plot;
use crate::{BenchError, Report};

const STYLE: &str = "body{font:15px/1.5 sans-serif;max-width:1120px;margin:2em auto;padding:0 1em;color:#222}\
    table{border-collapse:collapse;font-variant-numeric:tabular-nums}td,th{padding:.2em .7em;text-align:right;\
    border-bottom:1px solid #ddd}figure{display:inline-block;margin:.5em 0}svg{max-width:100%;height:auto}";

impl Report {
    /// The table, and what needs words.
    #[must_use]
    pub fn to_markdown(&self) -> String {
        let (headings, rows) = self.cells();
        let mut text = format!("# {} at {}\n\n{}. ", self.model, self.target, self.asked);
        text.push_str("Latencies in ms, from when a request was due.\n\n");
        let line = |cells: &[String]| format!("| {} |\n", cells.join(" | "));
        let headings: Vec<String> = headings.into_iter().map(str::to_owned).collect();
        text.push_str(&line(&headings));
        text.push_str(&format!("|{}\n", " ---: |".repeat(headings.len())));
        rows.iter().for_each(|row| text.push_str(&line(row)));
        let remarks = self.remarks();
        if !remarks.is_empty() {
            text.push('\n');
        }
        remarks
            .iter()
            .for_each(|remark| text.push_str(&format!("- {remark}\n")));
        text
    }

    /// The same with charts, as one HTML file without anything from elsewhere.
    ///
    /// # Errors
    /// If a chart cannot be drawn.
    pub fn to_html(&self) -> Result<String, BenchError> {
        let title = escaped(&format!("{} at {}", self.model, self.target));
        let mut page = format!(
            "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>{title}</title>\n\
             <style>{STYLE}</style></head>\n<body><h1>{title}</h1>\n<p>{}. Latencies in ms, from when a request was due.</p>\n",
            escaped(&self.asked)
        );
        let (headings, rows) = self.cells();
        let cells = |tag: &str, cells: &mut dyn Iterator<Item = &str>| {
            let cells = cells.map(|cell| format!("<{tag}>{}</{tag}>", escaped(cell)));
            format!("<tr>{}</tr>\n", cells.collect::<String>())
        };
        page.push_str("<table>");
        page.push_str(&cells("th", &mut headings.iter().copied()));
        for row in &rows {
            page.push_str(&cells("td", &mut row.iter().map(String::as_str)));
        }
        page.push_str("</table>\n<ul>");
        for remark in self.remarks() {
            // Writing to a text can't fail.
            let _ = write!(page, "<li>{}</li>", escaped(&remark));
        }
        page.push_str("</ul>\n");
        for figure in plot::all(self) {
            let _ = writeln!(page, "<figure>{}</figure>", figure.svg()?);
        }
        page.push_str("</body></html>\n");
        Ok(page)
    }
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_server_calls_itself_is_no_markup() {
        assert_eq!(
            escaped("<a href=\"&\">"),
            "&lt;a href=&quot;&amp;&quot;&gt;"
        );
    }
}
