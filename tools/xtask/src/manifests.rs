//! The manifests in the boot archive: one for each file of `boot/user/manifests`, checked on the way.

use crate::error::{Context, Error, Result};
use crate::toolchain::root;
use manifest::{SUFFIX, written};
use std::path::{Path, PathBuf};

/// The one that the supervisor starts when nobody says another.
const MAIN: &str = "main";

/// All of them under their names in the archive, checked for these programs. `main` takes the place of
/// the main one.
pub fn packed(programs: &[&str], main: Option<&Path>) -> Result<Vec<(String, Vec<u8>)>> {
    let folder = root().join("boot/user/manifests");
    let files = std::fs::read_dir(&folder).context(|| format!("cannot read {}", folder.display()))?;
    let mut files: Vec<PathBuf> = files.filter_map(|file| Some(file.ok()?.path())).collect();
    files.retain(|file| file.extension().is_some_and(|extension| extension == "toml"));
    files.sort();
    let mut packed = Vec::new();
    for file in &files {
        let name = file.file_stem().unwrap_or_default().to_string_lossy();
        let file = main.filter(|_| name == MAIN).unwrap_or(file);
        packed.push((format!("{name}{SUFFIX}"), one(file, programs)?));
    }
    Ok(packed)
}

fn one(file: &Path, programs: &[&str]) -> Result<Vec<u8>> {
    let text = std::fs::read_to_string(file).context(|| format!("cannot read {}", file.display()))?;
    let shown = file.strip_prefix(root()).unwrap_or(file).display();
    written::pack(&text, programs)
        .map_err(|problem| Error::new(format!("{shown}:{}: {}", problem.line, problem.what)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mistake_is_named_with_its_file_and_line() {
        let file = std::env::temp_dir().join(format!("xtask-manifest-{}.toml", std::process::id()));
        std::fs::write(&file, "[[process]]\nname = \"init\"\nprogram = \"nonesuch\"\n").unwrap();
        let error = one(&file, &["init"]).unwrap_err().to_string();
        std::fs::remove_file(&file).unwrap();
        assert!(error.contains(".toml:3: there is no program `nonesuch`"), "{error}");
    }
}
