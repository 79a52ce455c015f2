//! The arguments a program was started with; the first is its name.
//!
//! A maker that passes on handles under names (see [`Command::grant_named`](crate::Command)) says in
//! more arguments where they are: a mark, the name, `=`, the handle. They are not counted as
//! arguments.

use crate::object::{Kind, Object};
use abi::Handle;

/// What begins an argument that names a handle: a control character, which nobody types.
pub(crate) const MARK: char = '\u{1}';

/// The argument block.
#[derive(Clone, Copy, Debug)]
pub struct Args(&'static str);

impl Args {
    /// Takes the block over from the kernel. One that is not text is as good as none: a
    /// program's maker passes text.
    ///
    /// # Safety
    /// `block` is valid for reading `len` bytes as long as the program runs, and nothing writes
    /// them.
    pub unsafe fn from_kernel(block: *const u8, len: usize) -> Self {
        if block.is_null() || len == 0 {
            return Self("");
        }
        // SAFETY: the caller's promise.
        let bytes = unsafe { core::slice::from_raw_parts(block, len) };
        Self(core::str::from_utf8(bytes).unwrap_or(""))
    }

    /// All of them, the name first.
    pub fn iter(self) -> impl Iterator<Item = &'static str> + Clone {
        self.all().filter(|word| !word.starts_with(MARK))
    }

    /// With those that name handles.
    fn all(self) -> impl Iterator<Item = &'static str> + Clone {
        self.0.split_terminator('\0')
    }

    /// What this program was given under `name`. It owns it from now on: asked for once.
    pub fn given<K: Kind>(self, name: &str) -> Option<Object<K>> {
        let named = |word: &'static str| word.strip_prefix(MARK)?.strip_prefix(name)?.strip_prefix('=');
        let number = self.all().find_map(named)?.parse().ok()?;
        Some(Object::from_handle(Handle(number)))
    }

    /// The `index`-th; 0 is the name.
    pub fn get(self, index: usize) -> Option<&'static str> {
        self.iter().nth(index)
    }

    /// The `index`-th as a number. The error is a line that says what was wanted.
    pub fn number(self, index: usize) -> Result<u64, BadNumber> {
        let text = self.get(index).ok_or(BadNumber { index, text: None })?;
        text.parse().map_err(|_| BadNumber { index, text: Some(text) })
    }
}

/// An argument that is no number, or is missing.
#[derive(Clone, Copy, Debug)]
pub struct BadNumber {
    index: usize,
    text: Option<&'static str>,
}

impl core::fmt::Display for BadNumber {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self.text {
            Some(text) => write!(f, "argument {} is `{text}`, a number is wanted", self.index),
            None => write!(f, "argument {} is missing, a number is wanted", self.index),
        }
    }
}
