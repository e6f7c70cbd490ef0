//! What somebody probably meant to write.

/// The nearest of `known` to `written`, if one is near enough to be a slip of the hand.
pub(crate) fn nearest(written: &str, known: &[&'static str]) -> Option<&'static str> {
    if written.len() > MAX_WRITTEN_BYTES {
        return None;
    }
    known
        .iter()
        .map(|name| (distance(written, name), *name))
        .min()
        .filter(|(distance, name)| *distance <= (name.len() / 3).max(1))
        .map(|(_, name)| name)
}

/// Says which of `known` was meant, or else lists them.
pub(crate) fn one_of(written: &str, known: &[&'static str]) -> String {
    if let Some(name) = nearest(written, known) {
        return format!("did you mean `{name}`?");
    }
    match known {
        [] => "nothing".to_owned(),
        [only] => format!("`{only}`"),
        [names @ .., last] => format!("`{}` or `{last}`", names.join("`, `")),
    }
}

/// Levenshtein's distance without regard to case.
fn distance(left: &str, right: &str) -> usize {
    let right: Vec<char> = right.chars().map(|c| c.to_ascii_lowercase()).collect();
    let mut row: Vec<usize> = (0..=right.len()).collect();
    for (i, l) in left.chars().map(|c| c.to_ascii_lowercase()).enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, r) in right.iter().enumerate() {
            let substituted = diagonal + usize::from(l != *r);
            diagonal = row[j + 1];
            row[j + 1] = substituted.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[right.len()]
}

/// Longer than any name that is known here, and a bound on the work for a hostile file.
const MAX_WRITTEN_BYTES: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slips_find_their_name_and_strangers_do_not() {
        let known = ["hostnames", "mode", "backends", "connectTimeout"];
        assert_eq!(nearest("hostname", &known), Some("hostnames"));
        assert_eq!(nearest("connect_timeout", &known), Some("connectTimeout"));
        assert_eq!(nearest("Mode", &known), Some("mode"));
        assert_eq!(nearest("replicas", &known), None);
        assert_eq!(one_of("x", &["a", "bc", "de"]), "did you mean `a`?");
        assert_eq!(one_of("zzz", &["a", "bc", "de"]), "`a`, `bc` or `de`");
    }
}
