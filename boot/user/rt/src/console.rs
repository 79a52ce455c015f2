//! The console, and printing to it.

use crate::call::{call, word};
use crate::object::{Kind, Object};
use abi::{CONSOLE_CHUNK, Call, Error, initial};
use arrayvec::ArrayString;
use core::fmt::{self, Write};

/// The machine's console.
#[derive(Debug)]
pub enum ConsoleKind {}
impl Kind for ConsoleKind {}
/// A handle on it.
pub type Console = Object<ConsoleKind>;

/// What this program's maker granted it as a console.
pub static CONSOLE: Console = Console::from_handle(initial::CONSOLE);

impl Console {
    /// Writes all of `bytes`. Needs `WRITE`. Other programs' output comes between pieces of
    /// [`CONSOLE_CHUNK`] bytes at the earliest.
    pub fn write(&self, mut bytes: &[u8]) -> Result<(), Error> {
        while !bytes.is_empty() {
            let arguments = [word(self.handle()), bytes.as_ptr() as u64, bytes.len() as u64, 0, 0, 0];
            // SAFETY: the kernel only reads `bytes`.
            let written = unsafe { call(Call::ConsoleWrite, arguments) }? as usize;
            bytes = bytes.get(written.max(1)..).unwrap_or_default();
        }
        Ok(())
    }

    /// Waits for input and puts at least one byte of it into `buffer`. Needs `READ`.
    pub fn read(&self, buffer: &mut [u8]) -> Result<usize, Error> {
        let arguments = [word(self.handle()), buffer.as_mut_ptr() as u64, buffer.len() as u64, 0, 0, 0];
        // SAFETY: the kernel writes into `buffer` only, which is borrowed for that.
        let read = unsafe { call(Call::ConsoleRead, arguments) }? as usize;
        Ok(read.min(buffer.len()))
    }
}

/// Prints to [`CONSOLE`]; to nowhere if none was granted. A text of up to [`CONSOLE_CHUNK`]
/// bytes goes out in one piece, so lines of several programs do not mix.
pub fn print(text: fmt::Arguments<'_>) {
    let mut out = Buffered(ArrayString::new());
    // Formatting fails only if a Display implementation does, and then the text was cut there.
    let _ = out.write_fmt(text);
    out.flush();
}

struct Buffered(ArrayString<CONSOLE_CHUNK>);

impl Buffered {
    fn flush(&mut self) {
        // Without a console there is nobody to tell.
        let _ = CONSOLE.write(self.0.as_bytes());
        self.0.clear();
    }
}

impl Write for Buffered {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for c in text.chars() {
            if self.0.try_push(c).is_err() {
                self.flush();
                self.0.push(c);
            }
        }
        Ok(())
    }
}
