//! The gates that read source text.

use super::Finding;
use crate::error::{Context, Result};
use crate::toolchain::root;
use std::path::Path;

/// A file of the tree, by its path from the top.
pub struct File {
    pub path: String,
    pub text: String,
}

impl File {
    fn complain(&self, line: usize, what: &str) -> String {
        format!("{}:{}: {what}", self.path, line + 1)
    }

    fn is_rust(&self) -> bool {
        self.path.ends_with(".rs")
    }

    /// The lines with their comments and the contents of their strings cut out, so that prose and
    /// messages are not taken for code. Good enough for rustfmt's output; not a parser.
    fn code(&self) -> impl Iterator<Item = (usize, String)> + '_ {
        self.text.lines().enumerate().map(|(number, line)| (number, code_of(line)))
    }
}

/// A line without comment and string contents.
fn code_of(line: &str) -> String {
    let mut code = String::with_capacity(line.len());
    let mut characters = line.chars().peekable();
    while let Some(character) = characters.next() {
        match character {
            '/' if characters.peek() == Some(&'/') => break,
            '"' => {
                code.push('"');
                while let Some(inside) = characters.next() {
                    match inside {
                        '\\' => drop(characters.next()),
                        '"' => {
                            code.push('"');
                            break;
                        }
                        _ => {}
                    }
                }
            }
            '\'' if characters.clone().nth(1) == Some('\'') => drop((characters.next(), characters.next())),
            other => code.push(other),
        }
    }
    code
}

/// Runs a gate over every text file of the tree.
pub fn gate(gate: fn(&File) -> Vec<String>) -> Result<Finding> {
    let mut complaints = Vec::new();
    each(&mut |file| complaints.extend(gate(file)))?;
    Ok(complaints.into())
}

/// Every text file of the tree.
pub fn each(found: &mut impl FnMut(&File)) -> Result<()> {
    visit(&root(), &mut |path| {
        let Ok(text) = std::fs::read_to_string(path) else { return };
        let path = path.strip_prefix(root()).unwrap_or(path).display().to_string();
        found(&File { path, text });
    })
}

/// Every file below a folder, in the order of names, without what is built.
fn visit(folder: &Path, found: &mut impl FnMut(&Path)) -> Result<()> {
    let mut entries: Vec<_> = std::fs::read_dir(folder)
        .and_then(|entries| entries.collect::<std::io::Result<Vec<_>>>())
        .context(|| format!("cannot list {}", folder.display()))?
        .into_iter()
        .map(|entry| entry.path())
        .collect();
    entries.sort();
    for path in entries {
        let name = path.file_name().unwrap_or_default();
        if path.is_dir() {
            if name != "target" && name != ".git" {
                visit(&path, found)?;
            }
        } else if name != ".git" && name != "Cargo.lock" {
            found(&path);
        }
    }
    Ok(())
}

/// The generic code never asks which machine it is on.
pub fn asks_for_machine(file: &File) -> Vec<String> {
    if !file.is_rust() || file.path.starts_with("arch/") || file.path.starts_with("boot/") {
        return Vec::new();
    }
    let asks = |code: &str| code.contains("target_arch") || code.contains("spandrel_arch");
    file.code()
        .filter(|(_, code)| asks(code))
        .map(|(line, _)| {
            file.complain(
                line,
                "asks for the machine outside arch/ and boot/; make it a hook or a constant of the contract",
            )
        })
        .collect()
}

/// How many lines above an `unsafe` its SAFETY comment may end.
const SAFETY_WITHIN: usize = 3;

/// Every unsafe block and unsafe impl says why it is sound, directly above.
pub fn safety(file: &File) -> Vec<String> {
    if !file.is_rust() {
        return Vec::new();
    }
    let lines: Vec<&str> = file.text.lines().collect();
    file.code()
        .filter(|(_, code)| opens_unsafe(code))
        .filter(|&(line, _)| !says_safety(&lines, line))
        .map(|(line, _)| file.complain(line, "unsafe without a `// SAFETY:` comment directly above"))
        .collect()
}

/// Whether a line of code opens an unsafe block or an unsafe impl. An `unsafe fn` or `unsafe
/// trait` states obligations instead of meeting them; attributes and `extern` are not blocks.
fn opens_unsafe(code: &str) -> bool {
    code.match_indices("unsafe").any(|(at, word)| {
        let before = code[..at].chars().next_back();
        let is_word = |c: char| c.is_alphanumeric() || c == '_';
        let rest = &code[at + word.len()..];
        let rest_trimmed = rest.trim_start();
        !before.is_some_and(is_word)
            && !rest.starts_with(is_word)
            && (rest_trimmed.starts_with('{') || rest_trimmed.starts_with("impl") || rest_trimmed.is_empty())
    })
}

/// Whether the comment above a line, or within the few lines of its own statement above, says it.
fn says_safety(lines: &[&str], line: usize) -> bool {
    if lines[line].contains("SAFETY:") {
        return true;
    }
    let mut above = line;
    let mut code_lines = 0;
    while above > 0 {
        above -= 1;
        let text = lines[above].trim_start();
        if text.contains("SAFETY:") {
            return true;
        }
        // A comment may be long; what counts is how much code lies between it and the word.
        if !text.starts_with("//") && !text.starts_with("#[") {
            code_lines += 1;
            if code_lines >= SAFETY_WITHIN {
                return false;
            }
        }
    }
    false
}

/// In the kernel, running out of memory is an error to someone; these would end the machine.
pub fn allocation(file: &File) -> Vec<String> {
    const INFALLIBLE: &[&str] = &[
        "Box::new(",
        "Box::pin(",
        "Rc::new(",
        "Arc::new(",
        "vec![",
        "format!(",
        ".to_string()",
        ".to_owned()",
        ".to_vec()",
        ".push_back(",
        "String::from(",
        "with_capacity(",
        ".collect::<Vec",
        "alloc::vec::Vec",
        "alloc::string",
        "alloc::boxed",
        "alloc::sync",
        "alloc::rc",
        "alloc::collections",
        "extern crate alloc",
    ];
    if !file.path.starts_with("kernel/") || !file.is_rust() || file.path.contains("/tests") {
        return Vec::new();
    }
    let mut complaints = Vec::new();
    for (line, code) in file.code() {
        // Unit tests run on the host and come last in a file.
        if code.trim() == "#[cfg(test)]" {
            break;
        }
        if let Some(word) = INFALLIBLE.iter().find(|word| code.contains(*word)) {
            complaints.push(
                file.complain(
                    line,
                    &format!("`{word}` cannot say no; use a container that returns an error"),
                ),
            );
        }
    }
    complaints
}

/// What is not done is not in the tree.
pub fn unfinished(file: &File) -> Vec<String> {
    // In two pieces, so that this file passes its own gate.
    const WORDS: &[&str] = &[
        concat!("TO", "DO"),
        concat!("FIX", "ME"),
        concat!("XX", "X:"),
        concat!("to", "do!("),
        concat!("unimple", "mented!("),
        concat!("#[ig", "nore"),
    ];
    if !file.is_rust() && !file.path.ends_with(".toml") && !file.path.ends_with(".md") {
        return Vec::new();
    }
    file.text
        .lines()
        .enumerate()
        .filter_map(|(line, text)| {
            let word = WORDS.iter().find(|word| text.contains(*word))?;
            Some(file.complain(line, &format!("`{word}`: finish it, or return an error")))
        })
        .collect()
}

/// No file knows the machine it was written on.
pub fn machine_paths(file: &File) -> Vec<String> {
    const PATHS: &[&str] =
        &[concat!("/ro", "ot/"), concat!("/wo", "rk/"), concat!("/ho", "me/"), concat!("/Us", "ers/")];
    file.text
        .lines()
        .enumerate()
        .filter_map(|(line, text)| {
            // A path begins a word: `…/network/x` is none.
            let path = PATHS.iter().find(|path| {
                text.match_indices(*path).any(|(at, _)| {
                    !text[..at]
                        .ends_with(|c: char| c.is_alphanumeric() || matches!(c, '.' | '_' | '-' | '}' | '/'))
                })
            })?;
            Some(file.complain(line, &format!("a path below {path} exists on one machine only")))
        })
        .collect()
}

#[cfg(test)]
#[path = "source_tests.rs"]
mod tests;
