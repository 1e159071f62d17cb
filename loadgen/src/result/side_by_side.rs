//! Figures of two results beside each other, at least one of which another tool measured. No statistics:
//! such a result does not tell how its figures vary.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use super::comparison::{Better, Unit};
use super::origin::Tool;
use super::verdict::Verdict;

/// The figures that both results have.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct SideBySide {
    /// Version of this layout.
    pub schema: u32,
    /// The kind of the file.
    pub kind: SideBySideKind,
    /// The program that made it.
    pub tool: Tool,
    /// When it was made, RFC 3339 in UTC.
    pub started_at: String,
    /// The base.
    pub base: Side,
    /// The new side.
    pub new: Side,
    /// The figures of either side, in which a ratio is only of those that both have.
    pub figures: Vec<Figure>,
    /// What can't be known. The status is never valid.
    pub verdict: Verdict,
}

/// The kind of the file.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum SideBySideKind {
    /// Two results beside each other.
    SideBySide,
}

/// One of the two results.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Side {
    /// Its file.
    pub name: String,
    /// The program that measured.
    pub tool: Tool,
    /// Its load, in words.
    pub load: String,
}

/// A figure of both sides.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Figure {
    /// Its name.
    pub name: Cow<'static, str>,
    /// Its unit.
    pub unit: Unit,
    /// Whether more or less is better.
    pub better: Better,
    /// The base's; null if it is not known.
    pub base: Option<f64>,
    /// The new side's; null if it is not known.
    pub new: Option<f64>,
    /// New over base; null if a side lacks it, or the base's is 0.
    pub ratio: Option<f64>,
}
