//! What the plugin saw of a guest, read from the lines it wrote (`tools/oracle/src/report.rs`), with
//! the kernel's symbols in place of addresses.

use crate::error::{Context, Error, Result};
use crate::symbols::Names;
use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

/// Counts of the whole run, by name.
pub type Counts = BTreeMap<String, u64>;

/// All of it.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Observed {
    pub counts: Counts,
    windows: BTreeMap<usize, Window>,
}

/// What happened between a begin and an end.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Window {
    /// Kernel instructions of each time a CPU had it open itself.
    pub lengths: Vec<u64>,
    /// How often each kernel instruction was executed, on all CPUs, by its address.
    steps: BTreeMap<u64, u64>,
    pub events: Vec<Event>,
    /// The cache lines that one CPU stored to and another touched, by physical address.
    pub lines: BTreeMap<u64, Line>,
}

/// Executions of an instruction that the contracts speak of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    pub cpu: usize,
    /// `reload`, `barrier`, `serialize`, `interrupt_return`, `call_return`, `ask`.
    pub what: String,
    pub at: u64,
    pub count: u64,
}

/// A cache line that CPUs share.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Line {
    /// Its size.
    pub bytes: u64,
    /// A virtual address of it.
    pub at: u64,
    pub touched: Vec<Touched>,
}

/// What one CPU did to a line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Touched {
    pub cpu: usize,
    pub loads: u64,
    pub stores: u64,
    /// Some of the instructions that stored.
    pub writers: Vec<u64>,
}

impl FromStr for Observed {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let mut observed = Self::default();
        for line in text.lines() {
            observed.add(line).context(|| format!("the counter wrote `{line}`"))?;
        }
        Ok(observed)
    }
}

impl Observed {
    fn add(&mut self, line: &str) -> Result<()> {
        let (kind, rest) = line.split_once(' ').ok_or_else(|| Error::new("one word"))?;
        if !rest.contains('=') {
            self.counts.insert(kind.into(), number(rest)?);
            return Ok(());
        }
        let fields = Fields(rest);
        let window = self.windows.entry(fields.number("window")? as usize).or_default();
        let cpu = fields.number("cpu")? as usize;
        match kind {
            "span" => window.lengths.extend(fields.numbers("lengths")?),
            "step" => *window.steps.entry(fields.number("at")?).or_default() += fields.number("count")?,
            "event" => window.events.push(Event {
                cpu,
                what: fields.text("what")?.into(),
                at: fields.number("at")?,
                count: fields.number("count")?,
            }),
            "line" => {
                let (at, bytes) = (fields.number("at")?, fields.number("bytes")?);
                let line = window.lines.entry(fields.number("physical")?).or_insert(Line {
                    at,
                    bytes,
                    touched: Vec::new(),
                });
                line.touched.push(Touched {
                    cpu,
                    loads: fields.number("loads")?,
                    stores: fields.number("stores")?,
                    writers: fields.numbers("writers")?,
                });
            }
            _ => return Err(Error::new(format!("`{kind}` is not known"))),
        }
        Ok(())
    }

    /// What happened in a window; nothing if it was never open.
    pub fn window(&self, number: usize) -> Window {
        self.windows.get(&number).cloned().unwrap_or_default()
    }
}

/// `name=value` words.
struct Fields<'a>(&'a str);

impl<'a> Fields<'a> {
    fn text(&self, name: &str) -> Result<&'a str> {
        let value = |word: &'a str| word.strip_prefix(name)?.strip_prefix('=');
        self.0.split(' ').find_map(value).ok_or_else(|| Error::new(format!("`{name}` is missing")))
    }
    fn number(&self, name: &str) -> Result<u64> {
        number(self.text(name)?)
    }
    fn numbers(&self, name: &str) -> Result<Vec<u64>> {
        self.text(name)?.split(',').filter(|word| !word.is_empty()).map(number).collect()
    }
}

fn number(text: &str) -> Result<u64> {
    match text.strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16),
        None => text.parse(),
    }
    .context(|| format!("`{text}`"))
}

impl Window {
    /// How often a CPU had it open.
    pub fn openings(&self) -> u64 {
        self.lengths.len() as u64
    }

    /// The median of the kernel instructions of one opening.
    pub fn median(&self) -> Option<u64> {
        let mut lengths = self.lengths.clone();
        lengths.sort_unstable();
        lengths.get(lengths.len() / 2).copied()
    }

    /// The same, with those shared lines only that more than one CPU stored to.
    pub fn stored_to_by_many(mut self) -> Self {
        self.lines.retain(|_, line| line.touched.iter().filter(|cpu| cpu.stores > 0).count() > 1);
        self
    }

    /// Table-base or process-id writes.
    pub fn reloads(&self) -> u64 {
        self.executed(|event| event.what == "reload")
    }

    /// Executions of the full-barrier sites of generic code. Other instructions that happen to be
    /// barriers, such as a lock's, are events too, and not among these.
    pub fn full_barriers(&self, names: &Names) -> u64 {
        self.executed(|event| event.what == "barrier" && names.is_in(event.at, "full_barrier"))
    }

    /// Core serializations for their own sake. That an interrupt's return serializes too is nobody's
    /// doing.
    pub fn core_syncs(&self, names: &Names) -> u64 {
        self.executed(|event| {
            let serializes = matches!(event.what.as_str(), "serialize" | "interrupt_return");
            serializes && names.is_in(event.at, "core_sync")
        })
    }

    fn executed(&self, counts: impl Fn(&Event) -> bool) -> u64 {
        self.events.iter().filter(|event| counts(event)).map(|event| event.count).sum()
    }

    /// The shared lines for a person, with who did what to them.
    pub fn describe_lines(&self, names: &Names) -> String {
        let mut text = String::new();
        for (&physical, line) in &self.lines {
            let name = names
                .data(line.at, line.bytes)
                .unwrap_or_else(|| format!("no symbol, virtual address {:#x}", line.at));
            text.push_str(&format!("line of {} bytes at physical {physical:#x}: {name}\n", line.bytes));
            for touched in &line.touched {
                text.push_str(&format!("    {touched}\n"));
                for &writer in &touched.writers {
                    text.push_str(&format!("        stored by {}\n", names.place(writer)));
                }
            }
        }
        text
    }

    /// The kernel's instructions of one opening for a person, on average and by function, the
    /// costliest first. What a library's function executes counts for the one of ours that it was
    /// inlined into.
    pub fn describe_steps(&self, names: &Names) -> String {
        let mut functions: BTreeMap<String, u64> = BTreeMap::new();
        for (&at, &count) in &self.steps {
            let places = names.functions(at);
            let ours = |place: &&String| place.contains(" at kernel/") || place.contains(" at arch/");
            let place = places.iter().find(ours).or(places.last());
            let function = place.and_then(|place| place.split(" at ").next());
            *functions.entry(function.unwrap_or("?").into()).or_default() += count;
        }
        let mut functions: Vec<_> = functions.into_iter().collect();
        functions.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
        let each = |count: u64| count as f64 / self.openings().max(1) as f64;
        functions.iter().map(|(name, count)| format!("{:8.1} {name}\n", each(*count))).collect()
    }

    /// Executions of instructions of this kind for a person, by place.
    pub fn describe_events(&self, what: &str, names: &Names) -> String {
        let mut places: BTreeMap<String, u64> = BTreeMap::new();
        for event in self.events.iter().filter(|event| event.what == what) {
            *places.entry(names.place(event.at)).or_default() += event.count;
        }
        places.iter().map(|(place, count)| format!("    {count} times {what} in {place}\n")).collect()
    }
}

impl fmt::Display for Touched {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CPU {}: {} loads, {} stores", self.cpu, self.loads, self.stores)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "\
boot 12
span window=2 cpu=0 lengths=40,30,20
span window=2 cpu=1 lengths=
step window=2 cpu=0 at=0x10 count=4
step window=2 cpu=1 at=0x10 count=1
event window=2 cpu=0 what=barrier at=0x10 count=4
event window=2 cpu=1 what=barrier at=0x20 count=1
event window=2 cpu=1 what=reload at=0x10 count=2
line window=2 cpu=0 physical=0x40 bytes=64 at=0xff40 loads=1 stores=0 writers=
line window=2 cpu=1 physical=0x40 bytes=64 at=0xff40 loads=0 stores=3 writers=0x1,0x2
";

    #[test]
    fn what_the_plugin_wrote_is_read() {
        let observed: Observed = TEXT.parse().unwrap();
        assert_eq!(observed.counts["boot"], 12);
        let window = observed.window(2);
        assert_eq!(window.openings(), 3);
        assert_eq!(window.median(), Some(30));
        assert_eq!(window.steps[&0x10], 5);
        assert_eq!(window.reloads(), 2);
        assert_eq!(window.executed(|event| event.what == "barrier"), 5);
        assert_eq!(window.lines[&0x40].touched[1].writers, [1, 2]);
        assert_eq!(observed.window(3), Window::default());
        assert!(window.clone().stored_to_by_many().lines.is_empty());
        let mut window = window;
        window.lines.get_mut(&0x40).unwrap().touched[0].stores = 1;
        assert_eq!(window.stored_to_by_many().lines.len(), 1);
    }

    #[test]
    fn nonsense_is_an_error_that_shows_it() {
        for text in
            ["boot twelve", "boot", "span window=1 cpu=0", "colour window=1 cpu=0", "line window=x cpu=0"]
        {
            assert!(text.parse::<Observed>().unwrap_err().to_string().contains(text), "{text}");
        }
    }
}
