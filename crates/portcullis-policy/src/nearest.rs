//! Finds the known word that somebody most likely meant.

/// Returns the candidate nearest to `word`, when one is near enough to be a slip: a third of its letters at
/// most are missing, added, changed or swapped with their neighbour. Of two letters, only swapped ones are a slip.
pub(crate) fn nearest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let bound = (word.chars().count().max(3) / 3).min(3);
    candidates
        .into_iter()
        .filter(|candidate| *candidate != word && candidate.len().abs_diff(word.len()) <= bound)
        .map(|candidate| (distance(word, candidate), candidate))
        .filter(|&(distance, candidate)| distance <= bound && (word.len() > 2 || is_swapped(word, candidate)))
        .min()
        .map(|(_, candidate)| candidate)
}

fn is_swapped(word: &str, candidate: &str) -> bool {
    candidate.chars().rev().eq(word.chars())
}

/// The optimal string alignment distance.
fn distance(a: &str, b: &str) -> usize {
    let a: Vec<char> = a.chars().collect();
    let b: Vec<char> = b.chars().collect();
    let mut before: Vec<usize> = Vec::new();
    let mut above: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.iter().enumerate() {
        let mut row = vec![i + 1];
        for (j, y) in b.iter().enumerate() {
            let at = |row: &[usize], column: usize| row.get(column).copied().unwrap_or(usize::MAX / 2);
            let mut best =
                (at(&above, j) + usize::from(x != y)).min(at(&above, j + 1) + 1).min(at(&row, j) + 1);
            let swapped = i > 0 && j > 0 && a.get(i - 1) == Some(y) && b.get(j - 1) == Some(x);
            if swapped {
                best = best.min(at(&before, j - 1) + 1);
            }
            row.push(best);
        }
        before = std::mem::replace(&mut above, row);
    }
    above.last().copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_is_recognised_and_another_word_is_not() {
        for (word, wanted) in [
            ("gerp", Some("grep")),
            ("sl", Some("ls")),
            ("catt", Some("cat")),
            ("programms", Some("programs")),
            ("python", None),
            ("ls", None),
            ("rs", None),
        ] {
            assert_eq!(nearest(word, ["ls", "cat", "grep", "programs"]), wanted, "{word}");
        }
    }
}
