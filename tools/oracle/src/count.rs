//! The counting itself: what one CPU executes, one instruction at a time.

/// What an instruction is, as far as its bytes and address tell.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// The first instruction of the kernel.
    Entry,
    /// At one of the kernel's own, high addresses.
    Kernel,
    /// In the range where user programs are linked: user code, or early boot code.
    Low,
    /// The same, and it asks for a system call.
    LowCall,
    /// Anywhere else: firmware, boot code, exception vectors.
    Other,
}

/// What one CPU has executed.
#[derive(Clone, Debug, Default)]
pub struct Counter {
    boot: Boot,
    /// Whether the kernel has run at its high addresses: only then is low code user code.
    reached_kernel: bool,
    /// Kernel instructions since a user instruction asked for a system call.
    call: Option<u32>,
    /// Finished calls by their length; the last one counts all that are longer.
    lengths: Vec<u64>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Boot {
    #[default]
    Before,
    Running(u64),
    Done(u64),
}

/// Calls of this many instructions or more are counted together.
const LONGEST: usize = 4096;

impl Counter {
    /// One more instruction is about to run.
    #[inline]
    pub fn step(&mut self, kind: Kind) {
        match kind {
            Kind::Low | Kind::LowCall if self.reached_kernel => {
                if let Boot::Running(count) = self.boot {
                    self.boot = Boot::Done(count);
                }
                if let Some(length) = self.call.take() {
                    self.finished(length);
                }
                if kind == Kind::LowCall {
                    self.call = Some(0);
                }
                return;
            }
            Kind::Entry if self.boot == Boot::Before => self.boot = Boot::Running(0),
            Kind::Kernel => self.reached_kernel = true,
            _ => {}
        }
        if let Boot::Running(count) = &mut self.boot {
            *count += 1;
        }
        if let Some(length) = &mut self.call {
            *length = length.saturating_add(1);
        }
    }

    fn finished(&mut self, length: u32) {
        self.lengths.resize(LONGEST + 1, 0);
        self.lengths[(length as usize).min(LONGEST)] += 1;
    }

    /// Instructions from the kernel's entry to the first user instruction, if it came to that.
    pub fn boot(&self) -> Option<u64> {
        match self.boot {
            Boot::Done(count) => Some(count),
            _ => None,
        }
    }
}

/// The finished calls of several CPUs: how many, the shortest, the median.
pub fn calls<'a>(counters: impl Iterator<Item = &'a Counter> + Clone) -> (u64, Option<u64>, Option<u64>) {
    let at = |length: usize| {
        counters.clone().map(|counter| counter.lengths.get(length).copied().unwrap_or(0)).sum::<u64>()
    };
    let total: u64 = (0..=LONGEST).map(at).sum();
    let shortest = (0..=LONGEST).find(|&length| at(length) > 0).map(|length| length as u64);
    let mut seen = 0;
    let median = (0..=LONGEST).find(|&length| {
        seen += at(length);
        total > 0 && seen * 2 >= total
    });
    (total, shortest, median.map(|length| length as u64))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(kinds: &[(Kind, usize)]) -> Counter {
        let mut counter = Counter::default();
        for &(kind, times) in kinds {
            for _ in 0..times {
                counter.step(kind);
            }
        }
        counter
    }

    #[test]
    fn boot_is_from_the_entry_to_the_first_user_instruction() {
        use Kind::*;
        let counter =
            after(&[(Other, 100), (Entry, 1), (Other, 3), (Low, 5), (Kernel, 10), (Low, 7), (Kernel, 9)]);
        assert_eq!(counter.boot(), Some(19));
    }

    #[test]
    fn early_code_at_low_addresses_is_not_user_code() {
        use Kind::*;
        assert_eq!(after(&[(Entry, 1), (Low, 5), (LowCall, 1)]).boot(), None);
        assert_eq!(after(&[(Low, 5), (Kernel, 5), (Low, 1)]).boot(), None);
    }

    #[test]
    fn the_entry_address_starts_the_count_once() {
        use Kind::*;
        assert_eq!(after(&[(Entry, 3), (Kernel, 1), (Low, 1), (Entry, 1)]).boot(), Some(4));
    }

    #[test]
    fn calls_count_what_lies_between_two_user_instructions() {
        use Kind::*;
        let boot = [(Entry, 1), (Kernel, 1), (Low, 1)];
        let calls_made = [
            (LowCall, 1),
            (Kernel, 40),
            (Low, 3),
            (LowCall, 1),
            (Kernel, 38),
            (Other, 4),
            (LowCall, 1),
            (Kernel, 40),
            (Low, 1),
        ];
        let counter = after(&[&boot[..], &calls_made[..]].concat());
        assert_eq!(calls([counter].iter()), (3, Some(40), Some(40)));
    }

    #[test]
    fn an_interrupt_is_no_call_and_an_unfinished_call_does_not_count() {
        use Kind::*;
        let counter =
            after(&[(Entry, 1), (Kernel, 1), (Low, 1), (Kernel, 500), (Low, 1), (LowCall, 1), (Kernel, 9)]);
        assert_eq!(calls([counter].iter()), (0, None, None));
    }

    #[test]
    fn the_median_is_taken_over_all_cpus_and_long_calls_do_not_move_it() {
        use Kind::*;
        let start = [(Entry, 1), (Kernel, 1)];
        let of = |length| after(&[&start[..], &[(LowCall, 1), (Kernel, length), (Low, 1)][..]].concat());
        let counters = [of(50), of(60), of(1_000_000)];
        assert_eq!(calls(counters.iter()), (3, Some(50), Some(60)));
    }
}
