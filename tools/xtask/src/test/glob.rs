//! Patterns for names: `*` stands for any characters, `?` for one.

/// Whether a whole name fits a pattern.
pub fn matches(pattern: &str, name: &str) -> bool {
    let (pattern, name): (Vec<char>, Vec<char>) = (pattern.chars().collect(), name.chars().collect());
    let (mut p, mut n) = (0, 0);
    // Where to go on when the last `*` has to take one more character.
    let mut retry: Option<(usize, usize)> = None;
    while n < name.len() {
        match pattern.get(p) {
            Some('*') => {
                retry = Some((p + 1, n));
                p += 1;
            }
            Some(&c) if c == '?' || c == name[n] => {
                p += 1;
                n += 1;
            }
            _ => {
                let Some((after, taken)) = retry else { return false };
                retry = Some((after, taken + 1));
                p = after;
                n = taken + 1;
            }
        }
    }
    pattern[p..].iter().all(|&c| c == '*')
}

#[cfg(test)]
mod tests {
    use super::matches;

    #[test]
    fn stars_and_question_marks() {
        assert!(matches("*hello*", "x86_64/hello"));
        assert!(matches("x86_64/*", "x86_64/hello"));
        assert!(matches("x86_64/hell?", "x86_64/hello"));
        assert!(matches("*a*b*c", "xxaxxbxbxc"));
        assert!(!matches("hello", "x86_64/hello"));
        assert!(!matches("*a*b", "b a"));
        assert!(matches("*", ""));
    }
}
