//! The console's line protocol: what is for the host, and what is the guest's own output.
//!
//! Lines that begin with `@spandrel ` are for the host (their list is in the ABI); everything
//! else passes through at once, byte by byte, so that a prompt without a newline is seen. Only a
//! line that could still turn out to be for the host is held back.

/// What a protocol line starts with.
const MARK: &[u8] = b"@spandrel ";
/// Longest protocol line that is believed; a longer one is output.
const LONGEST: usize = 256;

/// A line for the host.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Message {
    /// The run ended with this status.
    Exit(u8),
    /// A panic, a kernel fault, or unusable boot input.
    Failed,
    /// A return address of a backtrace.
    Frame(u64),
    /// Some events of a CPU: what follows the word `trace`.
    Trace(String),
    /// The mark, and nothing this tool knows.
    Unknown(String),
}

impl Message {
    fn parse(line: &str) -> Self {
        if let Some(records) = line.strip_prefix("trace ") {
            return Self::Trace(records.into());
        }
        let mut words = line.split_ascii_whitespace();
        let known = match (words.next(), words.next()) {
            (Some("exit"), Some(status)) => status.parse().ok().map(Self::Exit),
            (Some("failed"), None) => Some(Self::Failed),
            (Some("frame"), Some(address)) => {
                u64::from_str_radix(address.trim_start_matches("0x"), 16).ok().map(Self::Frame)
            }
            _ => None,
        };
        known.filter(|_| words.next().is_none()).unwrap_or_else(|| Self::Unknown(line.into()))
    }
}

/// What came out of some input.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Piece {
    Output(Vec<u8>),
    Message(Message),
}

/// A line for the host begins with a newline of its own, so that it never ends up inside a line
/// that a program has begun. Where no line was begun this leaves an empty one, which is nobody's.
fn without_blank_line(held: &[u8]) -> &[u8] {
    held.strip_prefix(b"\r\n").or(held.strip_prefix(b"\n")).unwrap_or(held)
}

/// Splits a stream of bytes. Carriage returns before a newline are dropped inside messages only.
#[derive(Default)]
pub struct Splitter {
    /// The bytes of a line that may be for the host.
    held: Vec<u8>,
    /// Whether the current line is known to be output.
    inside_output: bool,
}

impl Splitter {
    /// Takes bytes as they come.
    pub fn feed(&mut self, bytes: &[u8]) -> Vec<Piece> {
        let mut pieces = Vec::new();
        for &byte in bytes {
            if self.inside_output {
                self.output(&mut pieces, byte);
                continue;
            }
            self.held.push(byte);
            let line = without_blank_line(&self.held);
            let could_be = line.starts_with(MARK) || MARK.starts_with(line) || b"\r\n".starts_with(line);
            if !could_be || self.held.len() > LONGEST {
                self.release(&mut pieces);
            } else if byte == b'\n' && line.len() > MARK.len() {
                let line = String::from_utf8_lossy(&line[MARK.len()..]).trim().to_owned();
                pieces.push(Piece::Message(Message::parse(&line)));
                self.held.clear();
            }
        }
        pieces
    }

    /// The stream ended: what was held back is output after all.
    pub fn finish(&mut self) -> Vec<Piece> {
        let mut pieces = Vec::new();
        self.release(&mut pieces);
        pieces
    }

    fn release(&mut self, pieces: &mut Vec<Piece>) {
        self.inside_output = true;
        for byte in std::mem::take(&mut self.held) {
            self.output(pieces, byte);
        }
    }

    fn output(&mut self, pieces: &mut Vec<Piece>, byte: u8) {
        self.inside_output = byte != b'\n';
        match pieces.last_mut() {
            Some(Piece::Output(bytes)) => bytes.push(byte),
            _ => pieces.push(Piece::Output(vec![byte])),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(chunks: &[&str]) -> (String, Vec<Message>) {
        let mut splitter = Splitter::default();
        let mut output = Vec::new();
        let mut messages = Vec::new();
        let mut pieces: Vec<_> = chunks.iter().flat_map(|chunk| splitter.feed(chunk.as_bytes())).collect();
        pieces.extend(splitter.finish());
        for piece in pieces {
            match piece {
                Piece::Output(bytes) => output.extend(bytes),
                Piece::Message(message) => messages.push(message),
            }
        }
        (String::from_utf8(output).unwrap(), messages)
    }

    #[test]
    fn messages_are_taken_out_of_the_output() {
        let (output, messages) =
            all(&["hello\r\n@spandrel frame 0xffffffff80100010\r\n", "@spandrel exit 7\r\nbye"]);
        assert_eq!(output, "hello\r\nbye");
        assert_eq!(messages, [Message::Frame(0xffff_ffff_8010_0010), Message::Exit(7)]);
    }

    #[test]
    fn the_blank_line_before_a_message_goes_with_it_and_others_stay() {
        assert_eq!(all(&["a\r\n\r", "\n@spandrel exit 1\r\n"]), ("a\r\n".into(), vec![Message::Exit(1)]));
        assert_eq!(all(&["\n@spandrel failed\n"]).0, "");
        assert_eq!(all(&["a\n\nb\r\n\r\nc\n\n\n@spandrel failed\n"]).0, "a\n\nb\r\n\r\nc\n\n\n");
        assert_eq!(all(&["a\n\n> "]).0, "a\n\n> ");
    }

    #[test]
    fn events_are_taken_out_whole() {
        let (output, messages) = all(&["\n@spandrel trace 1 00ff\n"]);
        assert_eq!((output.as_str(), messages), ("", vec![Message::Trace("1 00ff".into())]));
    }

    #[test]
    fn messages_may_come_in_pieces() {
        let (output, messages) = all(&["@", "span", "drel fai", "led", "\n"]);
        assert_eq!(output, "");
        assert_eq!(messages, [Message::Failed]);
    }

    #[test]
    fn a_prompt_is_not_held_back() {
        let mut splitter = Splitter::default();
        assert_eq!(splitter.feed(b"> "), [Piece::Output(b"> ".to_vec())]);
        assert_eq!(splitter.feed(b"@"), [Piece::Output(b"@".to_vec())]);
    }

    #[test]
    fn the_mark_inside_a_line_is_output() {
        let (output, messages) = all(&["say @spandrel exit 0\n@spandre\n@spandrel exit"]);
        assert_eq!(output, "say @spandrel exit 0\n@spandre\n@spandrel exit");
        assert_eq!(messages, []);
    }

    #[test]
    fn nonsense_is_reported_and_never_a_status() {
        let (_, messages) =
            all(&["@spandrel exit 256\n@spandrel exit 1 2\n@spandrel exit -1\n@spandrel dance\n"]);
        assert!(messages.iter().all(|message| matches!(message, Message::Unknown(_))), "{messages:?}");
    }
}
