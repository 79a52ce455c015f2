//! A line from the console, edited as it is typed. Bytes come raw, so the echo is made here.
//!
//! The editor is written out rather than taken from a crate because those for small systems ask
//! the terminal for its size and wait for the answer, which never comes when the other end of
//! the console is a file or a pipe. What is here is what a person expects at least: backspace,
//! and the control keys for clearing a word, a line, and for leaving.

use user_rt::alloc::string::String;
use user_rt::{CONSOLE, Error, print};

/// Bytes of a line, at most; more are not taken, with a bell.
const LIMIT: usize = 1024;

/// What was typed.
pub enum Typed {
    Line(String),
    /// Ctrl-C: what was typed so far is void.
    Cancelled,
    /// Ctrl-D on an empty line: no more will come.
    End,
}

/// Reads from the console and keeps what was typed ahead.
pub struct Reader {
    buffer: [u8; 64],
    taken: usize,
    filled: usize,
    /// The last byte was a carriage return: a line feed after it is part of it.
    after_return: bool,
}

impl Reader {
    pub const fn new() -> Self {
        Self { buffer: [0; 64], taken: 0, filled: 0, after_return: false }
    }

    fn byte(&mut self) -> Result<u8, Error> {
        if self.taken == self.filled {
            self.filled = CONSOLE.read(&mut self.buffer)?;
            self.taken = 0;
        }
        let byte = self.buffer.get(self.taken).copied().unwrap_or_default();
        self.taken += 1;
        Ok(byte)
    }

    /// Prints `prompt` and waits for a line.
    pub fn line(&mut self, prompt: &str) -> Result<Typed, Error> {
        print!("{prompt}");
        let mut line = String::new();
        // Bytes of a character that is not complete yet.
        let mut pending = Pending { bytes: [0; 4], len: 0 };
        loop {
            let byte = self.byte()?;
            let after_return = core::mem::replace(&mut self.after_return, byte == b'\r');
            match byte {
                b'\n' if after_return => {}
                b'\r' | b'\n' => {
                    print!("\n");
                    return Ok(Typed::Line(line));
                }
                CTRL_C => {
                    print!("^C\n");
                    return Ok(Typed::Cancelled);
                }
                CTRL_D if line.is_empty() => {
                    print!("\n");
                    return Ok(Typed::End);
                }
                BACKSPACE | DELETE => erase(&mut line, 1),
                CTRL_U => {
                    let all = line.chars().count();
                    erase(&mut line, all);
                }
                CTRL_W => {
                    let kept = line.trim_end().rfind(' ').map_or(0, |blank| blank + 1);
                    let word = line[kept..].chars().count();
                    erase(&mut line, word);
                }
                ESCAPE => self.skip_sequence()?,
                0x20.. => {
                    if let Some(c) = pending.push(byte) {
                        if line.len() + c.len_utf8() <= LIMIT && line.try_reserve(c.len_utf8()).is_ok() {
                            line.push(c);
                            print!("{c}");
                        } else {
                            print!("\x07");
                        }
                    }
                }
                _ => {}
            }
        }
    }

    /// Skips what a key like an arrow sends after the escape byte: `[`, numbers, a letter.
    fn skip_sequence(&mut self) -> Result<(), Error> {
        if matches!(self.byte()?, b'[' | b'O') {
            while !matches!(self.byte()?, 0x40..=0x7e) {}
        }
        Ok(())
    }
}

const CTRL_C: u8 = 3;
const CTRL_D: u8 = 4;
const BACKSPACE: u8 = 8;
const CTRL_U: u8 = 0x15;
const CTRL_W: u8 = 0x17;
const ESCAPE: u8 = 0x1b;
const DELETE: u8 = 0x7f;

/// Takes the last `count` characters away, from the line and from the screen.
fn erase(line: &mut String, count: usize) {
    for _ in 0..count {
        if line.pop().is_some() {
            print!("\x08 \x08");
        }
    }
}

/// Puts characters of several bytes together.
struct Pending {
    bytes: [u8; 4],
    len: usize,
}

impl Pending {
    /// Takes a byte; gives a character when one is complete. Bytes that make none are dropped.
    fn push(&mut self, byte: u8) -> Option<char> {
        if !(0x80..0xc0).contains(&byte) || self.len == self.bytes.len() {
            self.len = 0;
        }
        self.bytes[self.len] = byte;
        self.len += 1;
        let c = core::str::from_utf8(&self.bytes[..self.len]).ok()?.chars().next();
        self.len = 0;
        c
    }
}
