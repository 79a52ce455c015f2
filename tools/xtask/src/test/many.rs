//! The same programs on more CPUs, on one thread of the host, under other interrupt controllers, and
//! on the kernels with another lifetime policy: each row of what can differ at least once on each
//! machine, rather than everything with everything.

use super::cases::Case;
use crate::arch::Arch;
use crate::qemu::{Interrupts, Threads};
use crate::variant::{Lifetime, Variant};

/// A program that several CPUs make harder, and what it prints when all is well.
struct Program {
    words: &'static [&'static str],
    prints: &'static [&'static str],
}

/// Processes that come and go, that call at random, and threads of one process on every CPU.
const PROGRAMS: [Program; 4] = [
    Program { words: &["many", "20"], prints: &[] },
    Program { words: &["storm"], prints: &["0 wrong"] },
    Program { words: &["switches", "idle", "20"], prints: &["switches: 20"] },
    Program { words: &["switches", "move", "20"], prints: &["switches: 20"] },
];

/// CPUs and threads of the host: more of both than the host has, and fewer.
const MACHINES: [(u32, Threads); 4] =
    [(2, Threads::Multi), (4, Threads::Multi), (8, Threads::Multi), (4, Threads::Single)];

/// Seconds; the host has fewer CPUs than most of these guests.
const LIMIT: u64 = 180;

/// The rows.
pub fn all(arch: Arch) -> Vec<Case> {
    let mut cases = Vec::new();
    for (cpus, threads) in MACHINES {
        let name = match threads {
            Threads::Multi => format!("smp-{cpus}"),
            Threads::Single => format!("smp-{cpus}-one-thread"),
        };
        cases.extend(PROGRAMS.iter().map(|program| on(arch, &name, program, cpus, threads)));
    }
    for lifetime in [Lifetime::Refcount, Lifetime::Shootdown] {
        let kernel = Variant::from(lifetime);
        let name = format!("smp-4{}", kernel.suffix());
        cases.extend(
            PROGRAMS.iter().map(|program| on(arch, &name, program, 4, Threads::Multi).kernel(kernel)),
        );
    }
    match arch {
        Arch::X86_64 => {
            cases.push(on(arch, "smp-64", &PROGRAMS[2], 64, Threads::Multi));
        }
        Arch::Ppc64le => {
            let xive = |program| Case {
                adjust: Box::new(|machine| {
                    machine.cpus = 4;
                    machine.interrupts = Interrupts::Xive;
                }),
                ..on(arch, "smp-4-xive", program, 4, Threads::Multi)
            };
            cases.extend([&PROGRAMS[0], &PROGRAMS[3]].map(xive));
            cases.push(trusting_broadcasts(arch));
        }
    }
    cases
}

/// `tlbie` taken at its word, which the kernel does not do unasked under TCG. Where it returns too early
/// that shows in every third run or so of the case: so many runs leave no doubt.
fn trusting_broadcasts(arch: Arch) -> Case {
    const CASE: &str = "tlb_3_a_remote_unmap_faults";
    Case::new(arch, &format!("broadcast/{CASE}"))
        .kernel(Variant::default().for_testing())
        .program(&["conformance", "repeat", "40", CASE])
        .machine(|machine| {
            machine.cpus = 4;
            machine.options.push("broadcast=on".into());
        })
        .limit(LIMIT)
}

fn on(arch: Arch, name: &str, program: &Program, cpus: u32, threads: Threads) -> Case {
    let words: Vec<_> = program.words.iter().take(2).copied().collect();
    Case::new(arch, &format!("{name}/{}", words.join("-")))
        .program(program.words)
        .prints(program.prints)
        .machine(move |machine| {
            machine.cpus = cpus;
            machine.threads = threads;
        })
        .limit(LIMIT)
}
