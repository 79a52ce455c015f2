//! A clause id that appears anywhere is one that `arch/contract/src/clauses.rs` defines.

use super::source::File;
use arch_contract::clauses::ALL;

/// Ids that nobody defined: a typing mistake, or a clause that was never written down.
pub fn ids(file: &File) -> Vec<String> {
    if !file.path.ends_with(".rs") || file.path.starts_with("tools/") {
        return Vec::new();
    }
    let mut complaints = Vec::new();
    for (number, line) in file.text.lines().enumerate() {
        for id in mentioned(line) {
            if !ALL.iter().any(|clause| clause.id == id) {
                complaints.push(format!(
                    "{}:{}: no clause {id} in arch/contract/src/clauses.rs",
                    file.path,
                    number + 1
                ));
            }
        }
    }
    complaints
}

/// The words of a line that are shaped like an id of a known family, such as `CTX-7`.
fn mentioned(line: &str) -> impl Iterator<Item = &str> {
    line.split(|c: char| !c.is_ascii_alphanumeric() && c != '-').filter(|word| {
        word.split_once('-').is_some_and(|(family, number)| {
            !number.is_empty()
                && number.bytes().all(|byte| byte.is_ascii_digit())
                && ALL.iter().any(|clause| clause.id.split('-').next() == Some(family))
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str) -> Vec<String> {
        ids(&File { path: "kernel/src/a.rs".into(), text: text.into() })
    }

    #[test]
    fn an_id_nobody_defined_is_found() {
        assert!(
            check("// relies on `CTX-7`\n// and on CTX-99.\n")[0]
                .starts_with("kernel/src/a.rs:2: no clause CTX-99")
        );
    }

    #[test]
    fn other_words_with_dashes_are_not_ids() {
        assert!(check("// UTF-8, x86-64, SHA-256, CTX-1 to CTX-3, RET-hook\n").is_empty());
    }
}
