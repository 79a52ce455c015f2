//! Turns addresses in a guest into functions, source lines and data.

use crate::error::{Context, Result};
use crate::toolchain::{read, root};
use addr2line::Loader;
use object::{Object, ObjectSymbol, SymbolKind};
use std::path::Path;

/// The lines of a backtrace, as far as the kernel's symbols reach.
pub fn backtrace(kernel: &Path, frames: &[u64]) -> Vec<String> {
    let loader = Loader::new(kernel).ok();
    let mut lines = Vec::new();
    for (number, &address) in frames.iter().enumerate() {
        // A return address is that of the next instruction; the call lies before it.
        let found =
            loader.as_ref().map(|loader| describe(loader, address.saturating_sub(1))).unwrap_or_default();
        if found.is_empty() {
            lines.push(format!("{number:3}: {address:#018x}"));
        }
        for (depth, place) in found.into_iter().enumerate() {
            let head = if depth == 0 { format!("{number:3}: {address:#018x}") } else { " ".repeat(23) };
            lines.push(format!("{head} {place}"));
        }
    }
    lines
}

/// The function at an address, and those it was inlined into.
fn describe(loader: &Loader, address: u64) -> Vec<String> {
    // The symbol has the whole path of the function that was not inlined; the line table may not.
    let symbol = loader.find_symbol(address).map(|name| addr2line::demangle_auto(name.into(), None));
    let symbol = symbol.as_deref().map(without_hash);
    let mut places = Vec::new();
    if let Ok(mut frames) = loader.find_frames(address) {
        let mut next = frames.next().ok().flatten();
        while let Some(frame) = next {
            next = frames.next().ok().flatten();
            let inlined = frame.function.as_ref().and_then(|name| name.demangle().ok());
            let inlined = inlined.as_deref().map(without_hash);
            let name = if next.is_none() { symbol.or(inlined) } else { inlined };
            let place = frame
                .location
                .and_then(|location| Some(format!(" at {}:{}", short(location.file?), location.line?)));
            if name.is_some() || place.is_some() {
                places.push(format!("{}{}", name.unwrap_or("?"), place.unwrap_or_default()));
            }
        }
    }
    if places.is_empty() {
        places.extend(symbol.map(str::to_owned));
    }
    places
}

/// A function that an instruction belongs to, and where it was written.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Frame {
    pub function: String,
    /// As [`short`] has it; nothing for assembly, which has no line table.
    file: String,
    /// 0: none.
    pub line: u32,
}

impl Frame {
    /// From a line of [`describe`].
    pub fn parse(place: &str) -> Self {
        let (function, place) = place.split_once(" at ").unwrap_or((place, ""));
        let (file, line) = place.rsplit_once(':').unwrap_or((place, ""));
        Self { function: function.into(), file: file.into(), line: line.parse().unwrap_or(0) }
    }

    pub fn file(&self) -> &str {
        &self.file
    }

    /// The function's path without its type arguments.
    pub fn path(&self) -> &str {
        let end = self.function.char_indices().skip(1).find(|(_, letter)| *letter == '<').map(|(at, _)| at);
        let of_a_type = self.function.starts_with('<');
        match end.filter(|_| !of_a_type) {
            Some(end) => self.function[..end].trim_end_matches("::"),
            None => &self.function,
        }
    }

    /// The last word of it.
    pub fn name(&self) -> &str {
        self.path().rsplit("::").next().unwrap_or(self.path())
    }

    /// The same, where it is told of as a caller: a closure has no name but that.
    pub fn caller(&self) -> &str {
        if self.name().starts_with("{closure") { "closure" } else { self.name() }
    }

    /// Whether it was written in a port or in the kernel.
    pub fn is_ours(&self) -> bool {
        self.file.starts_with("arch/") || self.file.starts_with("kernel/")
    }

    /// Whether it was written in this file of them.
    pub fn is_in(&self, file: &str) -> bool {
        self.is_ours()
            && self.file.ends_with(file)
            && self.file[..self.file.len() - file.len()].ends_with('/')
    }

    /// Whether it has a line in some file.
    pub fn has_line(&self) -> bool {
        !self.file.is_empty()
    }

    /// Whether that is where there is no assembly: in the generic kernel or in a library.
    pub fn is_plain_rust(&self) -> bool {
        self.has_line() && !self.file.starts_with("arch/")
    }
}

/// The names of a kernel's code and data.
pub struct Names {
    loader: Loader,
    /// Address, size, name; in order.
    data: Vec<(u64, u64, String)>,
}

impl Names {
    pub fn read(kernel: &Path) -> Result<Self> {
        let name = || kernel.display().to_string();
        let bytes = read(kernel)?;
        let file = object::File::parse(&*bytes).context(name)?;
        let mut data: Vec<_> = file
            .symbols()
            .filter(|symbol| symbol.kind() == SymbolKind::Data && symbol.size() > 0)
            .filter_map(|symbol| {
                let name = addr2line::demangle_auto(symbol.name().ok()?.into(), None).into_owned();
                Some((symbol.address(), symbol.size(), without_hash(&name).to_owned()))
            })
            .collect();
        data.sort_unstable();
        let loader = Loader::new(kernel).map_err(|error| crate::error::Error::new(error.to_string()))?;
        Ok(Self { loader, data })
    }

    /// The statics in these bytes, as far as the image has them.
    pub fn data(&self, at: u64, bytes: u64) -> Option<String> {
        let inside = |(start, size, _): &&(u64, u64, String)| *start < at + bytes && at < start + size;
        let names: Vec<_> = self.data.iter().filter(inside).map(|(.., name)| name.as_str()).collect();
        (!names.is_empty()).then(|| names.join(", "))
    }

    /// The functions that an instruction belongs to, innermost first.
    pub fn frames(&self, at: u64) -> Vec<Frame> {
        describe(&self.loader, at).iter().map(|place| Frame::parse(place)).collect()
    }

    /// The same for a person: it may have been inlined.
    pub fn functions(&self, at: u64) -> Vec<String> {
        describe(&self.loader, at)
    }

    /// Those of them that are ours in a line, or else the outermost: what a library does is less telling
    /// than who had it do that.
    pub fn place(&self, at: u64) -> String {
        let functions = self.functions(at);
        let ours = |place: &&str| place.contains(" at kernel/") || place.contains(" at arch/");
        let told: Vec<&str> = functions.iter().map(String::as_str).filter(ours).collect();
        match (told.is_empty(), functions.last()) {
            (false, _) => told.join(" < "),
            (true, Some(outermost)) => outermost.clone(),
            (true, None) => format!("{at:#x}"),
        }
    }

    /// Whether an instruction belongs to a function of this name, or to one inlined from it.
    pub fn is_in(&self, at: u64, function: &str) -> bool {
        self.functions(at).iter().any(|place| {
            let name = place.split(" at ").next().unwrap_or(place);
            name.rsplit("::").next() == Some(function)
        })
    }
}

/// A file of the tree from its top, a file of a dependency from its package.
pub fn short(file: &str) -> &str {
    if let Some((_, inside)) = file.split_once("/registry/src/") {
        return inside.split_once('/').map_or(inside, |(_, package)| package);
    }
    Path::new(file).strip_prefix(root()).ok().and_then(Path::to_str).unwrap_or(file)
}

/// `kernel::sched::run::h0123456789abcdef` is `kernel::sched::run`.
fn without_hash(name: &str) -> &str {
    match name.rsplit_once("::h") {
        Some((front, hash)) if hash.len() == 16 && hash.bytes().all(|byte| byte.is_ascii_hexdigit()) => front,
        _ => name,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_are_dropped() {
        assert_eq!(without_hash("kernel::run::h0123456789abcdef"), "kernel::run");
        assert_eq!(without_hash("kernel::run::help"), "kernel::run::help");
    }

    #[test]
    fn files_are_named_from_the_tree_or_their_package() {
        let ours = root().join("kernel/src/lib.rs");
        assert_eq!(short(ours.to_str().unwrap()), "kernel/src/lib.rs");
        assert_eq!(short("/c/registry/src/index-1/arrayvec-0.7.8/src/lib.rs"), "arrayvec-0.7.8/src/lib.rs");
        assert_eq!(short("/rustc/library/core/src/ptr.rs"), "/rustc/library/core/src/ptr.rs");
    }

    #[test]
    fn an_unknown_address_stays_a_number() {
        let lines = backtrace(Path::new("/nonexistent"), &[0x1234]);
        assert_eq!(lines, ["  0: 0x0000000000001234"]);
    }
}
