//! The terminal in raw mode while a guest has it, and back again whatever happens.

use rustix::termios::{OptionalActions, Termios, tcgetattr, tcsetattr};
use std::io::IsTerminal;
use std::sync::Mutex;

/// How the terminal was, while it is raw.
static BEFORE: Mutex<Option<Termios>> = Mutex::new(None);

/// Standard input in raw mode, until dropped. A panic restores it too.
pub struct Raw(());

impl Raw {
    /// Nothing if standard input is no terminal.
    pub fn enter() -> Option<Self> {
        let input = std::io::stdin();
        if !input.is_terminal() {
            return None;
        }
        let before = tcgetattr(&input).ok()?;
        let mut raw = before.clone();
        raw.make_raw();
        // Output stays cooked: what the guest prints as a bare newline still starts a line.
        raw.output_modes = before.output_modes;
        *BEFORE.lock().ok()? = Some(before);
        let previous = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            restore();
            previous(info);
        }));
        tcsetattr(&input, OptionalActions::Flush, &raw).ok()?;
        Some(Self(()))
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        restore();
    }
}

fn restore() {
    if let Some(before) = BEFORE.lock().ok().and_then(|mut before| before.take()) {
        let _ = tcsetattr(std::io::stdin(), OptionalActions::Flush, &before);
    }
}

/// What a key press asks for, in raw mode.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Key {
    /// Bytes for the guest.
    Guest(Vec<u8>),
    /// Ctrl-A X: end the machine.
    Leave,
}

/// Finds Ctrl-A X in what is typed; Ctrl-A Ctrl-A sends one Ctrl-A.
#[derive(Default)]
pub struct Escape {
    pending: bool,
}

const CTRL_A: u8 = 1;

impl Escape {
    pub fn feed(&mut self, typed: &[u8]) -> Key {
        let mut bytes = Vec::with_capacity(typed.len());
        for &byte in typed {
            match (std::mem::take(&mut self.pending), byte) {
                (true, b'x' | b'X') => return Key::Leave,
                (true, CTRL_A) => bytes.push(CTRL_A),
                (true, other) => bytes.extend([CTRL_A, other]),
                (false, CTRL_A) => self.pending = true,
                (false, other) => bytes.push(other),
            }
        }
        Key::Guest(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ctrl_a_x_leaves_in_one_piece_or_two() {
        assert_eq!(Escape::default().feed(b"ab\x01x"), Key::Leave);
        let mut escape = Escape::default();
        assert_eq!(escape.feed(b"ab\x01"), Key::Guest(b"ab".to_vec()));
        assert_eq!(escape.feed(b"X"), Key::Leave);
    }

    #[test]
    fn ctrl_a_can_be_typed() {
        let mut escape = Escape::default();
        assert_eq!(escape.feed(b"\x01\x01x\x01b"), Key::Guest(b"\x01x\x01b".to_vec()));
    }
}
