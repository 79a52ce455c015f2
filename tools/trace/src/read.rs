//! From the lines of a console, or the rings of a model run, to one trace.

use crate::event::Event;
use abi::trace::{Kind, Record};
use std::collections::{BTreeMap, HashMap};
use std::fmt;

/// All events of a run that were kept, causes before effects.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Trace {
    /// In the order of time; those of one CPU in the order it recorded them.
    pub events: Vec<Event>,
    /// How many of its first events a CPU's ring has lost, for every CPU that has events.
    pub lost: BTreeMap<u16, u32>,
}

/// Why lines are not a trace.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ReadError {
    /// It is not `CPU` and a number of records.
    Line(String),
    /// No event has this number.
    Kind { cpu: u16, number: u32, kind: u16 },
    /// The records of a CPU do not follow each other.
    Gap { cpu: u16, expected: u32, found: u32 },
}

impl fmt::Display for ReadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Line(line) => write!(f, "not a line of a trace: `{line}`"),
            Self::Kind { cpu, number, kind } => {
                write!(f, "event {number} of CPU {cpu} is of kind {kind}, which this tool does not know")
            }
            Self::Gap { cpu, expected, found } => {
                write!(f, "CPU {cpu}: event {expected} is missing, {found} comes instead")
            }
        }
    }
}

impl std::error::Error for ReadError {}

/// Collects records, CPU by CPU.
#[derive(Default, Debug)]
pub struct Reader {
    cpus: BTreeMap<u16, Vec<Event>>,
}

/// Digits of a record: four words.
const DIGITS: usize = 64;

impl Reader {
    /// Takes what follows `@spandrel trace` on a line: `CPU RECORDS`.
    pub fn line(&mut self, line: &str) -> Result<(), ReadError> {
        let bad = || ReadError::Line(line.into());
        let (cpu, digits) = line.trim().split_once(' ').ok_or_else(bad)?;
        let cpu: u16 = cpu.parse().map_err(|_| bad())?;
        if digits.is_empty() || digits.len() % DIGITS != 0 || !digits.bytes().all(|c| c.is_ascii_hexdigit()) {
            return Err(bad());
        }
        for record in digits.as_bytes().chunks(DIGITS) {
            let word = |at: usize| {
                let digits = std::str::from_utf8(&record[at * 16..][..16]).map_err(|_| bad())?;
                u64::from_str_radix(digits, 16).map_err(|_| bad())
            };
            let record = Record { time: word(0)?, what: word(1)?, a: word(2)?, b: word(3)? };
            if record.cpu() != cpu {
                return Err(bad());
            }
            self.record(&record)?;
        }
        Ok(())
    }

    /// Takes a record; those of one CPU come in order.
    pub fn record(&mut self, record: &Record) -> Result<(), ReadError> {
        let (cpu, number) = (record.cpu(), record.number());
        let kind = record.what as u16;
        let event = Event::new(record).ok_or(ReadError::Kind { cpu, number, kind })?;
        let events = self.cpus.entry(cpu).or_default();
        match events.last().map(|last| last.number.wrapping_add(1)) {
            Some(expected) if expected != number => Err(ReadError::Gap { cpu, expected, found: number }),
            _ => {
                events.push(event);
                Ok(())
            }
        }
    }

    /// Merges what came. Threads, which the kernel knows by an address, are numbered in the order in
    /// which they first run. A clock that goes backwards on one CPU does not change that CPU's order:
    /// the event counts as no earlier than the one before. (`TIME-1` is checked apart.)
    pub fn finish(self) -> Trace {
        let lost =
            self.cpus.iter().map(|(&cpu, events)| (cpu, events.first().map_or(0, |e| e.number))).collect();
        let mut timed = Vec::new();
        for events in self.cpus.into_values() {
            let mut latest = 0;
            for event in events {
                latest = event.time.max(latest);
                timed.push((latest, event));
            }
        }
        timed.sort_by_key(|(time, _)| *time);
        let mut threads = HashMap::new();
        for (_, event) in timed.iter_mut().filter(|(_, event)| event.kind == Kind::UserReturn) {
            let next = threads.len() as u64 + 1;
            event.b = *threads.entry(event.b).or_insert(next);
        }
        Trace { events: timed.into_iter().map(|(_, event)| event).collect(), lost }
    }
}

impl Trace {
    /// Reads a guest's protocol lines, without the `@spandrel trace` before each.
    pub fn from_lines<'a>(lines: impl IntoIterator<Item = &'a str>) -> Result<Self, ReadError> {
        let mut reader = Reader::default();
        lines.into_iter().try_for_each(|line| reader.line(line))?;
        Ok(reader.finish())
    }

    /// Reads the rings of a run, each in order.
    pub fn from_records(records: impl IntoIterator<Item = Record>) -> Result<Self, ReadError> {
        let mut reader = Reader::default();
        records.into_iter().try_for_each(|record| reader.record(&record))?;
        Ok(reader.finish())
    }

    /// The highest CPU with an event, plus one.
    pub fn cpus(&self) -> u16 {
        self.lost.keys().next_back().map_or(0, |cpu| cpu + 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hex(time: u64, cpu: u16, number: u32, kind: Kind) -> String {
        let Record { time, what, a, b } = Record::new(time, cpu, number, kind, 1, 2);
        format!("{time:016x}{what:016x}{a:016x}{b:016x}")
    }

    #[test]
    fn cpus_are_merged_by_time() {
        let lines = [
            format!("0 {}{}", hex(10, 0, 0, Kind::Idle), hex(30, 0, 1, Kind::Wake)),
            format!("1 {}", hex(20, 1, 7, Kind::Mark)),
        ];
        let trace = Trace::from_lines(lines.iter().map(String::as_str)).unwrap();
        let order: Vec<_> = trace.events.iter().map(|e| (e.time, e.cpu, e.kind)).collect();
        assert_eq!(order, [(10, 0, Kind::Idle), (20, 1, Kind::Mark), (30, 0, Kind::Wake)]);
        assert_eq!(trace.lost, [(0, 0), (1, 7)].into());
        assert_eq!(trace.cpus(), 2);
    }

    #[test]
    fn a_clock_that_goes_back_keeps_the_order_of_its_cpu() {
        let records = [
            Record::new(50, 0, 0, Kind::Idle, 0, 0),
            Record::new(40, 0, 1, Kind::Wake, 0, 0),
            Record::new(45, 1, 0, Kind::Mark, 0, 0),
        ];
        let trace = Trace::from_records(records).unwrap();
        let order: Vec<_> = trace.events.iter().map(|e| e.kind).collect();
        assert_eq!(order, [Kind::Mark, Kind::Idle, Kind::Wake]);
    }

    #[test]
    fn what_is_missing_or_torn_is_an_error() {
        let mut reader = Reader::default();
        reader.line(&format!("0 {}", hex(1, 0, 4, Kind::Idle))).unwrap();
        let gap = reader.line(&format!("0 {}", hex(2, 0, 6, Kind::Wake)));
        assert_eq!(gap, Err(ReadError::Gap { cpu: 0, expected: 5, found: 6 }));
        let other = format!("1 {}", hex(1, 0, 0, Kind::Idle));
        for line in ["", "0", "0 12", "x 00", &other, &format!("0 {}", "g".repeat(DIGITS))] {
            assert!(matches!(Reader::default().line(line), Err(ReadError::Line(_))), "{line}");
        }
        let unknown = format!("0 {}", "0".repeat(DIGITS));
        assert!(matches!(Reader::default().line(&unknown), Err(ReadError::Kind { .. })));
    }
}
