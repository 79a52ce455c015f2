//! The kernel's command line: options, then ` -- `, then the arguments for init.
//!
//! ```text
//! init=NAME  mem=MIB  log=quiet|normal|verbose  provoke=panic|fault|overflow  trace=on|off
//! broadcast=on|off  mutant=ID  --  ARGUMENT…
//! ```
//! Words are separated by blanks. A word may hold `'…'`, inside which everything stands for
//! itself, `"…"`, inside which only `\` does not, and `\c`, which is the character `c`; so any
//! argument without a zero byte can be written, and [`quote`] writes it. The host tool quotes, the
//! kernel unquotes, with this one file.

use core::fmt::{self, Write};

/// What to say on the console.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub enum Log {
    /// Panics and processes killed by a fault.
    Quiet,
    /// And a line about the machine at the start.
    #[default]
    Normal,
    /// And more about faults.
    Verbose,
}

/// A way for the kernel to go wrong on purpose, so that what it does then can be seen and tested.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Provoke {
    /// A Rust panic.
    Panic,
    /// A read of an address that is not mapped.
    Fault,
    /// A recursion that runs into the guard page below the stack.
    Overflow,
}

/// Whether the event trace is recorded, and printed at the end. Only kernels built for testing can.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Tracing {
    On,
    #[default]
    Off,
}

/// Whether translations are invalidated on all CPUs by a broadcast where the machine has one, over
/// what it says of itself; else each CPU concerned is interrupted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Broadcast {
    On,
    Off,
}

/// The options, with nothing left to check.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Options<'a> {
    /// The program the kernel starts first.
    pub init: &'a str,
    /// Use no more memory than this, in MiB. At least 1.
    pub mem: Option<u64>,
    pub log: Log,
    pub provoke: Option<Provoke>,
    pub tracing: Tracing,
    pub broadcast: Option<Broadcast>,
    /// The promise to break. Only kernels built for testing can.
    pub mutant: Option<&'a str>,
    arguments: &'a str,
}

/// What went wrong with which word.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum OptionError<'a> {
    Unknown(&'a str),
    Repeated(&'a str),
    BadMem(&'a str),
    BadLog(&'a str),
    BadInit(&'a str),
    BadProvoke(&'a str),
    BadTrace(&'a str),
    BadBroadcast(&'a str),
    BadMutant(&'a str),
    Quoted(&'a str),
    Unterminated(&'a str),
    Zero,
    ArgumentsTooLong,
}

/// The block of arguments does not fit the buffer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TooLong;

/// Reads a command line.
pub fn parse(line: &str) -> Result<Options<'_>, OptionError<'_>> {
    if line.contains('\0') {
        return Err(OptionError::Zero);
    }
    let mut options = Options {
        init: "init",
        mem: None,
        log: Log::default(),
        provoke: None,
        tracing: Tracing::default(),
        broadcast: None,
        mutant: None,
        arguments: "",
    };
    let (mut init, mut log, mut trace) = (false, false, false);
    let mut rest = line;
    loop {
        let (word, after) = next_word(rest).map_err(OptionError::Unterminated)?;
        rest = after;
        let Some(word) = word else { break };
        if word == "--" {
            options.arguments = after;
            break;
        }
        let (key, value) = word.split_once('=').unwrap_or((word, ""));
        // Options are plain words: quoting one would only hide a mistake.
        if word.contains(['\'', '"', '\\']) {
            return Err(OptionError::Quoted(word));
        }
        let repeated = match key {
            "init" => {
                if value.is_empty() || value.len() > abi::MAX_NAME {
                    return Err(OptionError::BadInit(word));
                }
                options.init = value;
                core::mem::replace(&mut init, true)
            }
            "mem" => {
                let mib = decimal(value).filter(|&mib| 0 < mib && mib <= u64::MAX >> 20);
                options.mem.replace(mib.ok_or(OptionError::BadMem(word))?).is_some()
            }
            "log" => {
                options.log = match value {
                    "quiet" => Log::Quiet,
                    "normal" => Log::Normal,
                    "verbose" => Log::Verbose,
                    _ => return Err(OptionError::BadLog(word)),
                };
                core::mem::replace(&mut log, true)
            }
            "provoke" => {
                let provoke = match value {
                    "panic" => Provoke::Panic,
                    "fault" => Provoke::Fault,
                    "overflow" => Provoke::Overflow,
                    _ => return Err(OptionError::BadProvoke(word)),
                };
                options.provoke.replace(provoke).is_some()
            }
            "trace" => {
                options.tracing = match value {
                    "on" => Tracing::On,
                    "off" => Tracing::Off,
                    _ => return Err(OptionError::BadTrace(word)),
                };
                core::mem::replace(&mut trace, true)
            }
            "broadcast" => {
                let broadcast = match value {
                    "on" => Broadcast::On,
                    "off" => Broadcast::Off,
                    _ => return Err(OptionError::BadBroadcast(word)),
                };
                options.broadcast.replace(broadcast).is_some()
            }
            "mutant" => {
                if value.is_empty() {
                    return Err(OptionError::BadMutant(word));
                }
                options.mutant.replace(value).is_some()
            }
            _ => return Err(OptionError::Unknown(word)),
        };
        if repeated {
            return Err(OptionError::Repeated(word));
        }
    }
    // The quoting of the arguments is checked now, so that writing them has one error only.
    let mut length = options.init.len() + 1;
    let mut arguments = options.arguments;
    loop {
        let (word, after) = next_word(arguments).map_err(OptionError::Unterminated)?;
        let Some(word) = word else { break };
        length += unquoted(word).map(char::len_utf8).sum::<usize>() + 1;
        arguments = after;
    }
    if length > abi::MAX_ARGS {
        return Err(OptionError::ArgumentsTooLong);
    }
    Ok(options)
}

impl Options<'_> {
    /// Writes the arguments for init, each followed by a zero byte, as they follow the program's
    /// name in its argument block (see the ABI). Gives the bytes used. A buffer as long as the
    /// command line always suffices.
    pub fn arg_block(&self, out: &mut [u8]) -> Result<usize, TooLong> {
        let mut block = Block { out, used: 0 };
        let mut rest = self.arguments;
        while let Ok((Some(word), after)) = next_word(rest) {
            block.argument(unquoted(word))?;
            rest = after;
        }
        Ok(block.used)
    }
}

struct Block<'a> {
    out: &'a mut [u8],
    used: usize,
}

impl Block<'_> {
    fn argument(&mut self, text: impl Iterator<Item = char>) -> Result<(), TooLong> {
        for c in text.chain(['\0']) {
            let room = self.out.get_mut(self.used..self.used + c.len_utf8()).ok_or(TooLong)?;
            c.encode_utf8(room);
            self.used += c.len_utf8();
        }
        Ok(())
    }
}

/// Writes `argument` as one word that [`parse`] reads back as it was. It must not hold a zero
/// byte; the command line cannot.
pub fn quote(argument: &str, out: &mut impl Write) -> fmt::Result {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./=:,+@%".contains(c);
    if !argument.is_empty() && argument.chars().all(plain) {
        return out.write_str(argument);
    }
    out.write_char('\'')?;
    for c in argument.chars() {
        match c {
            '\'' => out.write_str("'\\''")?,
            c => out.write_char(c)?,
        }
    }
    out.write_char('\'')
}

/// [`quote`] as a value that can be printed.
pub struct Quoted<'a>(pub &'a str);

impl fmt::Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        quote(self.0, f)
    }
}

/// The blanks that separate words. Only ASCII: an argument may hold any other character.
const BLANKS: [char; 4] = [' ', '\t', '\n', '\r'];

/// Splits off the first word, still quoted. The error is the word that does not end.
///
/// Public for init, whose prompt follows the same rules.
pub fn next_word(line: &str) -> Result<(Option<&str>, &str), &str> {
    let line = line.trim_start_matches(BLANKS);
    if line.is_empty() {
        return Ok((None, ""));
    }
    let mut scanner = Scanner::default();
    for (index, c) in line.char_indices() {
        if scanner.step(c) == Meaning::Blank {
            let (word, rest) = line.split_at(index);
            return Ok((Some(word), rest));
        }
    }
    if scanner.open() { Err(line) } else { Ok((Some(line), "")) }
}

/// The characters a word that [`next_word`] gave stands for.
pub fn unquoted(word: &str) -> impl Iterator<Item = char> + '_ {
    let mut scanner = Scanner::default();
    word.chars().filter(move |&c| scanner.step(c) != Meaning::Quoting)
}

/// What a character does in its place.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Meaning {
    Itself,
    /// Belongs to the quoting and is dropped.
    Quoting,
    /// Ends the word.
    Blank,
}

/// Where in the quoting of a word one is.
#[derive(Clone, Copy, Default)]
struct Scanner {
    /// The quote that is open.
    quote: Option<char>,
    /// The next character stands for itself.
    escaped: bool,
}

impl Scanner {
    fn step(&mut self, c: char) -> Meaning {
        if core::mem::take(&mut self.escaped) {
            return Meaning::Itself;
        }
        match (c, self.quote) {
            ('\'' | '"', None) => self.quote = Some(c),
            (_, Some(quote)) if c == quote => self.quote = None,
            ('\\', None | Some('"')) => self.escaped = true,
            (_, None) if BLANKS.contains(&c) => return Meaning::Blank,
            _ => return Meaning::Itself,
        }
        Meaning::Quoting
    }

    /// Whether something has to come yet.
    fn open(&self) -> bool {
        self.quote.is_some() || self.escaped
    }
}

/// Digits only, no sign.
fn decimal(text: &str) -> Option<u64> {
    if text.bytes().all(|byte| byte.is_ascii_digit()) { text.parse().ok() } else { None }
}

/// What every error about an option ends with.
const KNOWN: &str = "options: init=NAME mem=MIB log=quiet|normal|verbose provoke=panic|fault|overflow \
                     trace=on|off broadcast=on|off mutant=ID, then -- and arguments for init";

impl fmt::Display for OptionError<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Unknown(word) => write!(f, "unknown option {}; {KNOWN}", Shown(word)),
            Self::Repeated(word) => write!(f, "{} repeats an option; {KNOWN}", Shown(word)),
            Self::BadMem(word) => {
                write!(f, "{}: a number of MiB, at least 1, is wanted; {KNOWN}", Shown(word))
            }
            Self::BadLog(word) => write!(f, "{}: quiet, normal or verbose is wanted; {KNOWN}", Shown(word)),
            Self::BadInit(word) => write!(
                f,
                "{}: the name of a program, 1 to {} bytes, is wanted; {KNOWN}",
                Shown(word),
                abi::MAX_NAME
            ),
            Self::BadProvoke(word) => {
                write!(f, "{}: panic, fault or overflow is wanted; {KNOWN}", Shown(word))
            }
            Self::BadTrace(word) | Self::BadBroadcast(word) => {
                write!(f, "{}: on or off is wanted; {KNOWN}", Shown(word))
            }
            Self::BadMutant(word) => write!(f, "{}: the id of a mutant is wanted; {KNOWN}", Shown(word)),
            Self::Quoted(word) => {
                write!(f, "{}: quotes are only understood after `--`; {KNOWN}", Shown(word))
            }
            Self::Unterminated(word) => {
                write!(f, "the quote or backslash in {} is not ended", Shown(word))
            }
            Self::Zero => write!(f, "it holds a zero byte"),
            Self::ArgumentsTooLong => {
                write!(f, "the arguments for init are longer than {} bytes", abi::MAX_ARGS)
            }
        }
    }
}

impl core::error::Error for OptionError<'_> {}

/// A word for a message: escaped, and cut off where it would fill the screen.
struct Shown<'a>(&'a str);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const SHOWN: usize = 64;
        f.write_char('`')?;
        for c in self.0.chars().take(SHOWN) {
            write!(f, "{}", c.escape_debug())?;
        }
        if self.0.chars().nth(SHOWN).is_some() {
            f.write_char('…')?;
        }
        f.write_char('`')
    }
}
