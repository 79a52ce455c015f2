//! What each CPU holds and runs, as far as its events say.

use crate::event::Event;
use crate::read::Trace;
use abi::trace::Kind;

/// What an MMU holds. An mm is a context id.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Loaded {
    Kernel,
    Active(u64),
    Lazy(u64),
    /// `from` is 0 for the kernel's own tables.
    Switching {
        from: u64,
        to: u64,
    },
}

impl Loaded {
    pub fn holds(self, mm: u64) -> bool {
        match self {
            Self::Kernel => false,
            Self::Active(held) | Self::Lazy(held) => held == mm,
            Self::Switching { from, to } => from == mm || to == mm,
        }
    }
}

/// What a CPU executes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Runs {
    Kernel,
    User(u64),
    /// A kernel task that uses this mm; 0 for none.
    Task(u64),
    Idle,
    Off,
}

/// What is known of a CPU. `None` is not known.
#[derive(Clone, Debug)]
pub struct Cpu {
    /// Events before this place in the trace say nothing of it.
    pub known_from: usize,
    pub loaded: Option<Loaded>,
    /// 0 for none.
    pub current: Option<u64>,
    /// Where in the trace `current` became that.
    pub current_since: usize,
    pub runs: Option<Runs>,
    /// The mm of the lazy episode under way.
    pub episode: Option<u64>,
}

impl Cpu {
    fn fresh() -> Self {
        Self {
            known_from: 0,
            loaded: Some(Loaded::Kernel),
            current: Some(0),
            current_since: 0,
            runs: Some(Runs::Kernel),
            episode: None,
        }
    }

    /// Whether it runs, or is about to go on running, a user of `mm`.
    pub fn in_user(&self, mm: u64) -> bool {
        self.runs == Some(Runs::User(mm)) || mm != 0 && self.runs == Some(Runs::Task(mm))
    }

    pub fn holds(&self, mm: u64) -> bool {
        self.loaded.is_some_and(|loaded| loaded.holds(mm))
    }
}

/// All CPUs.
pub struct State {
    pub cpus: Vec<Cpu>,
}

impl State {
    /// Before the first event.
    pub fn new(trace: &Trace) -> Self {
        let cpu = |cpu| match trace.lost.get(&cpu) {
            Some(&lost) if lost > 0 => Cpu {
                known_from: trace.events.iter().position(|event| event.cpu == cpu).unwrap_or(0),
                loaded: None,
                current: None,
                runs: None,
                ..Cpu::fresh()
            },
            _ => Cpu::fresh(),
        };
        Self { cpus: (0..trace.cpus()).map(cpu).collect() }
    }

    pub fn cpu(&self, cpu: u16) -> &Cpu {
        &self.cpus[usize::from(cpu)]
    }

    /// All CPUs with their numbers.
    pub fn each(&self) -> impl Iterator<Item = (u16, &Cpu)> {
        (0..).zip(&self.cpus)
    }

    pub fn apply(&mut self, index: usize, event: &Event) {
        let Event { kind, a, b, .. } = *event;
        let cpu = &mut self.cpus[usize::from(event.cpu)];
        match kind {
            Kind::Current => {
                cpu.current = Some(a);
                cpu.current_since = index;
            }
            // Where the beginning is lost, nobody knows whether this is inside a lazy episode; and
            // what is loaded stands for all that is known of the CPU's contexts.
            Kind::SwitchBegin | Kind::SwitchEnd if cpu.loaded.is_none() => {}
            Kind::SwitchBegin => cpu.loaded = Some(Loaded::Switching { from: a, to: b }),
            Kind::SwitchEnd => cpu.loaded = Some(Loaded::Active(a)),
            Kind::LazyEnter => {
                cpu.loaded = Some(Loaded::Lazy(a));
                cpu.episode = Some(a);
            }
            Kind::LazyExit => {
                cpu.loaded = Some(Loaded::Active(b));
                cpu.episode = None;
            }
            Kind::Drop => {
                cpu.loaded = Some(Loaded::Kernel);
                cpu.episode = None;
            }
            Kind::UserReturn => {
                cpu.loaded.get_or_insert(Loaded::Active(a));
                if cpu.current.is_none() {
                    cpu.current = Some(a);
                    cpu.current_since = index;
                }
                cpu.runs = Some(Runs::User(a));
            }
            Kind::Poll => cpu.runs = Some(Runs::Task(a)),
            Kind::UserEnter | Kind::Polled | Kind::Wake => cpu.runs = Some(Runs::Kernel),
            Kind::Idle => cpu.runs = Some(Runs::Idle),
            Kind::Online => *cpu = Cpu { known_from: cpu.known_from, current_since: index, ..Cpu::fresh() },
            Kind::Offline => {
                let known_from = cpu.known_from;
                *cpu = Cpu { known_from, current_since: index, runs: Some(Runs::Off), ..Cpu::fresh() };
            }
            _ => {}
        }
    }
}
