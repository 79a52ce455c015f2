//! `tools/x reference`: the calls and objects of the kernel, as a page to read.
//!
//! The documentation of the ABI crate is the source; the page says the same in order of the numbers.
//! The parser knows the few shapes that the crate uses and no more: documented numbers, constants,
//! and structures. `tools/x check` holds the page against the source.

use crate::check::Finding;
use crate::error::{Context, Result};
use crate::toolchain::root;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

const UPDATE: &str = "tools/x reference --update";
/// What is for kernels under test only.
const LEFT_OUT: &[&str] = &["testing.rs", "trace.rs"];

/// Show the reference of calls and objects, made from the ABI crate's documentation.
#[derive(clap::Args)]
pub struct Arguments {
    /// Write it to kernel/abi/REFERENCE.md, to be committed.
    #[arg(long)]
    update: bool,
}

pub fn main(arguments: Arguments) -> Result<ExitCode> {
    let text = generate()?;
    if arguments.update {
        let page = page();
        std::fs::write(&page, text).context(|| format!("writing {}", page.display()))?;
    } else {
        print!("{text}");
    }
    Ok(ExitCode::SUCCESS)
}

/// Whether the page in the tree is what the source says.
pub fn gate() -> Result<Finding> {
    let page = page();
    let there = std::fs::read_to_string(&page).unwrap_or_default();
    let complaints = if there == generate()? {
        Vec::new()
    } else {
        vec![format!("{}: not what the ABI crate says; run `{UPDATE}`", page.display())]
    };
    Ok(complaints.into())
}

fn page() -> PathBuf {
    root().join("kernel/abi/REFERENCE.md")
}

fn generate() -> Result<String> {
    let folder = root().join("kernel/abi/src");
    let entries = std::fs::read_dir(&folder).context(|| format!("reading {}", folder.display()))?;
    let mut files: Vec<PathBuf> = entries.filter_map(|entry| entry.ok().map(|entry| entry.path())).collect();
    let name = |path: &Path| path.file_name().map(|name| name.to_string_lossy().into_owned());
    files.retain(|path| name(path).is_some_and(|name| !LEFT_OUT.contains(&name.as_str())));
    // The crate's own file first, then the others by name.
    files.sort_by_key(|path| (name(path).is_none_or(|name| name != "lib.rs"), path.clone()));
    let mut page =
        String::from("<!-- Made by `tools/x reference --update`: do not edit. -->\n\n# Calls and objects\n");
    for file in files {
        let text = std::fs::read_to_string(&file).context(|| format!("reading {}", file.display()))?;
        page.push_str(&render(&text));
    }
    Ok(page.trim_end().to_owned() + "\n")
}

/// One file of the crate as a part of the page.
fn render(text: &str) -> String {
    let mut page = String::new();
    let mut docs: Vec<&str> = Vec::new();
    // Whether the lines are variants or fields of something that has a heading.
    let mut inside = false;
    for (line, indented) in text.lines().map(|line| (line.trim(), line.starts_with(' '))) {
        if let Some(doc) = line.strip_prefix("//!") {
            let _ = write!(page, "\n{}", plain(&heading(doc.strip_prefix(' ').unwrap_or(doc))));
            continue;
        }
        if let Some(doc) = line.strip_prefix("///") {
            docs.push(doc.strip_prefix(' ').unwrap_or(doc));
            continue;
        }
        let said = plain(&docs.join("\n"));
        if let Some(name) = title(line, indented) {
            inside = line.ends_with('{') || line.ends_with(':');
            if !docs.is_empty() {
                let _ = write!(page, "\n\n## {name}\n\n{said}\n");
            } else {
                inside = false;
            }
        } else if let Some(entry) = entry(line).filter(|_| inside) {
            let dash = if said.is_empty() { "" } else { ": " };
            let _ = write!(page, "\n- **{entry}**{dash}{}", said.replace('\n', "\n  "));
        } else if line.starts_with('}') {
            inside = false;
        }
        if !line.starts_with("#[") {
            docs.clear();
        }
    }
    page.trim_matches('\n').replace("\n\n\n", "\n\n") + "\n\n"
}

/// A heading of a module's text, two levels down.
fn heading(line: &str) -> String {
    if line.starts_with('#') { format!("##{line}") } else { line.to_owned() }
}

/// What is documented under a heading of its own: `Call:`, `pub struct Grant {`, `pub const X: u64 = 1;`.
fn title(line: &str, indented: bool) -> Option<String> {
    if let Some(name) = line.strip_suffix(':')
        && name.chars().all(char::is_alphanumeric)
    {
        return Some(name.to_owned());
    }
    let rest = ["pub struct ", "pub enum "].iter().find_map(|prefix| line.strip_prefix(prefix));
    if let Some(rest) = rest {
        let name: String = rest.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
        return Some(name);
    }
    // Those of an `impl` are Rust's business.
    let constant = line.strip_prefix("pub const ").filter(|_| !indented)?;
    let (name, value) = constant.strip_suffix(';')?.split_once(" = ")?;
    Some(format!("{} = {value}", name.split(':').next().unwrap_or(name)))
}

/// A variant or a bit with its number, or a public field with its type.
fn entry(line: &str) -> Option<String> {
    let line = match line.strip_prefix("const ") {
        Some(bit) => bit.strip_suffix(';')?,
        None => line.strip_suffix(',')?,
    };
    if let Some(field) = line.strip_prefix("pub ") {
        return Some(field.to_owned());
    }
    let (name, number) = line.split_once(" = ")?;
    number.parse::<u64>().ok()?;
    Some(format!("{number} {name}"))
}

/// Without the targets of links, which lead nowhere here.
fn plain(docs: &str) -> String {
    let mut text = String::new();
    let mut rest = docs;
    while let Some((before, after)) = rest.split_once("](") {
        let target = after.split_once(')').map(|(_, after)| after);
        text.push_str(before);
        match target {
            Some(after) => rest = after,
            None => break,
        }
        // The bracket that this link began with.
        if let Some(open) = text.rfind('[') {
            text.remove(open);
        }
    }
    text.push_str(rest);
    // Two code spans that touch are one.
    text.replace("[`", "`").replace("`]", "`").replace("``", "")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_fields_and_constants() {
        let page = render(
            "//! # A door\nnumbers! {\n    /// The calls.\n    Call:\n    /// `null()`. See\n    /// [`X`](crate::X).\n    Null = 0,\n}\n\
             /// Pages.\n#[repr(C)]\npub struct Pages {\n    /// How many.\n    pub count: u64,\n}\nbitflags! {\n/// May.\npub struct Rights: u32 {\nconst READ = 1;\n}\n}\n/// Bytes.\npub const PAGE: u64 = 4096;\nfn f() {}\n",
        );
        for wanted in [
            "### A door",
            "## Call\n\nThe calls.",
            "- **0 Null**: `null()`. See\n  `X`.",
            "## Pages\n\nPages.\n\n- **count: u64**: How many.",
            "- **1 READ**",
            "## PAGE = 4096\n\nBytes.",
        ] {
            assert!(page.contains(wanted), "{wanted:?} is not in {page}");
        }
    }
}
