//! What was probably meant by a name that no key has.

use super::keys::KEYS;

/// The most similar key, if it is close.
pub(super) fn nearest(name: &str) -> Option<&'static str> {
    /// More edits make a different word.
    const MAX_EDITS: usize = 2;
    /// No key is longer; the distance to a long text would take too much time.
    const MAX_NAME_LEN: usize = 64;
    if name.len() > MAX_NAME_LEN {
        return None;
    }
    let name = name.replace('_', "-").to_ascii_lowercase();
    let near = KEYS.iter().map(|key| (edits(&name, key.name), key.name));
    let (distance, nearest) = near.min()?;
    // In a short word, two edits can replace most of it.
    (distance <= MAX_EDITS.min(nearest.len() / 3)).then_some(nearest)
}

/// The Levenshtein distance: insertions, deletions and replacements of one byte.
fn edits(from: &str, to: &str) -> usize {
    let mut row: Vec<usize> = (0..=to.len()).collect();
    for (i, a) in from.bytes().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, b) in to.bytes().enumerate() {
            let replaced = diagonal + usize::from(a != b);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[to.len()]
}
