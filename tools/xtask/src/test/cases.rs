//! The guest cases: one row each, the same on every machine unless a row says otherwise.

use crate::arch::Arch;
use crate::build::Built;
use crate::observed::Observed;
use crate::qemu::{Firmware, Interrupts, Machine};
use crate::symbols::Names;
use crate::variant::Variant;
use std::fmt;

/// How a run must end.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Expect {
    Status(u8),
    /// The kernel refuses or gives up, with a message.
    GuestFails,
    TimeLimit,
    DidNotStart,
}

impl fmt::Display for Expect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Status(status) => write!(f, "status {status}"),
            Self::GuestFails => f.write_str("a guest that refuses"),
            Self::TimeLimit => f.write_str("the time limit"),
            Self::DidNotStart => f.write_str("a QEMU that does not start"),
        }
    }
}

/// Makes an archive out of the ordinary one.
pub type MakeInitrd = Box<dyn Fn(&Built, Vec<u8>) -> crate::error::Result<Vec<u8>> + Send + Sync>;

/// What is booted beside the kernel.
pub enum Initrd {
    Built,
    None,
    Made(MakeInitrd),
}

/// Says what speaks against what was counted, if anything does.
pub type JudgeCounts = Box<dyn Fn(&Observed, &Names) -> Result<(), String> + Send + Sync>;

/// How what the plugin saw of a guest is judged.
pub enum Judge {
    Counts(JudgeCounts),
    /// By the rules for executed instructions.
    Stream,
}

/// One guest case.
pub struct Case {
    /// `machine/what`.
    pub name: String,
    /// Which kernel boots.
    pub kernel: Variant,
    /// Whether the plugin watches, and what it must have seen.
    pub judge: Option<Judge>,
    pub initrd: Initrd,
    /// What init is told: a program and its arguments, or nothing for the prompt.
    pub program: Vec<String>,
    /// What is waited for, and then typed.
    pub script: Vec<(String, String)>,
    /// Changes to the ordinary machine.
    pub adjust: Box<dyn Fn(&mut Machine) + Send + Sync>,
    pub expect: Expect,
    /// Words that the console must show; `a|b` is either.
    pub prints: Vec<String>,
    /// Words that it must not.
    pub never_prints: Vec<String>,
    /// Seconds.
    pub limit: u64,
    /// Why it does not run here.
    pub skip: Option<String>,
}

/// Seconds for a case that does not say. Generous: two guests and a build may share the host.
const LIMIT: u64 = 60;

impl Case {
    /// A case that boots the ordinary machine and must exit 0 without a panic.
    pub fn new(arch: Arch, what: &str) -> Self {
        Self {
            name: format!("{arch}/{what}"),
            kernel: Variant::default(),
            judge: None,
            initrd: Initrd::Built,
            program: Vec::new(),
            script: Vec::new(),
            adjust: Box::new(|_| {}),
            expect: Expect::Status(0),
            prints: Vec::new(),
            never_prints: vec!["kernel panic".into()],
            limit: LIMIT,
            skip: None,
        }
    }
    pub fn program(mut self, words: &[&str]) -> Self {
        self.program = words.iter().map(|&word| word.into()).collect();
        self
    }
    pub fn types(mut self, steps: &[(&str, &str)]) -> Self {
        self.script = steps.iter().map(|&(cue, typed)| (cue.into(), typed.into())).collect();
        self
    }
    pub fn machine(mut self, adjust: impl Fn(&mut Machine) + Send + Sync + 'static) -> Self {
        self.adjust = Box::new(adjust);
        self
    }
    /// After what the machine was adjusted by before.
    pub fn and_machine(mut self, adjust: impl Fn(&mut Machine) + Send + Sync + 'static) -> Self {
        let before = self.adjust;
        self.adjust = Box::new(move |machine| {
            before(machine);
            adjust(machine);
        });
        self
    }
    pub fn kernel(mut self, kernel: Variant) -> Self {
        self.kernel = kernel;
        self
    }
    /// The same on a kernel that has mutants, with this one.
    pub fn broken(mut self, mutant: Option<&str>) -> Self {
        self.kernel = self.kernel.for_testing();
        let (adjust, option) = (self.adjust, mutant.map(|id| format!("mutant={id}")));
        self.adjust = Box::new(move |machine| {
            adjust(machine);
            machine.options.extend(option.clone());
        });
        self
    }
    pub fn watched(
        mut self,
        judge: impl Fn(&Observed, &Names) -> Result<(), String> + Send + Sync + 'static,
    ) -> Self {
        self.judge = Some(Judge::Counts(Box::new(judge)));
        self
    }
    pub fn keeps_the_rules(mut self) -> Self {
        self.judge = Some(Judge::Stream);
        self
    }
    pub fn initrd(mut self, initrd: Initrd) -> Self {
        self.initrd = initrd;
        self
    }
    pub fn status(self, status: u8) -> Self {
        self.expect(Expect::Status(status))
    }
    pub fn expect(mut self, expect: Expect) -> Self {
        self.expect = expect;
        self
    }
    pub fn prints(mut self, words: &[&str]) -> Self {
        self.prints = words.iter().map(|&word| word.into()).collect();
        self
    }
    pub fn never_prints(mut self, words: &[&str]) -> Self {
        self.never_prints.extend(words.iter().map(|&word| word.into()));
        self
    }
    pub fn limit(mut self, seconds: u64) -> Self {
        self.limit = seconds;
        self
    }
}

/// A PCI function that interrupts and masters the bus.
fn teaching_device(machine: &mut Machine) {
    machine.devices.push("edu,dma_mask=0xffffffff".into());
}

/// The cases in which a machine boots and runs programs.
pub fn all(arch: Arch) -> Vec<Case> {
    let case = |what: &str| Case::new(arch, what);
    // Arguments that would not survive a careless command line, and how `args` prints them.
    let args = ["args", "plain", "two words", "it's", "a\\b", "\"q\"", "--", "-x=y", "$HOME", "", "käse"];
    let shown: Vec<String> =
        args.iter().enumerate().skip(1).map(|(index, word)| format!("{index}: {word:?}\n")).collect();
    let greeting = format!("user mode on {arch}");
    // `TRAP-4`: the report has registers and a backtrace that is symbolized down to the entry.
    let crash = |how: &'static str, says: &str| Case {
        never_prints: Vec::new(),
        ..case(&format!("crash-{how}"))
            .program(&["hello"])
            .machine(move |machine| machine.options.push(format!("provoke={how}")))
            .expect(Expect::GuestFails)
            .prints(&[says, "r12 ", "backtrace, innermost first"])
    };
    // `USR-1`: on a CPU that was started by the kernel.
    let trespass = |how: &'static str| Case {
        never_prints: Vec::new(),
        ..case(&format!("trespass-{how}"))
            .program(&["trespass", how])
            .kernel(Variant::default().for_testing())
            .machine(|machine| machine.cpus = 2)
            .expect(Expect::GuestFails)
            .prints(&["page fault (vector 14|data storage (vector 0x300|instruction storage (vector 0x400"])
    };
    let mut cases = vec![
        // First what takes longest, so that nothing long runs alone at the end.
        case("many-20").program(&["many", "20"]).machine(|machine| machine.memory = 64).limit(120),
        case("hello").program(&["hello"]).prints(&[arch.name()]),
        case("exit-0").program(&["exit", "0"]),
        case("exit-7").program(&["exit", "7"]).status(7),
        case("exit-200").program(&["exit", "200"]).status(200),
        case("primes").program(&["primes", "100000"]).prints(&["9592"]),
        case("alloc").program(&["alloc"]),
        case("alloc-64-mib").program(&["alloc"]).machine(|machine| machine.memory = 64),
        case("storm").program(&["storm"]).never_prints(&["panicked"]).prints(&["0 wrong"]).limit(120),
        case("fuzz").program(&["fuzz"]).never_prints(&["panicked"]).prints(&["0 wrong"]).limit(120),
        case("fuzz-4")
            .program(&["fuzz", "20000", "1000"])
            .machine(|machine| machine.cpus = 4)
            .never_prints(&["panicked"])
            .prints(&["0 wrong"])
            .limit(120),
        // Everything that a process can ask of the kernel, with each of its allocations refused once.
        case("sweep")
            .program(&["sweep"])
            .kernel(Variant::default().for_testing())
            .machine(teaching_device)
            .never_prints(&["panicked"])
            .prints(&["one at a time, 0 wrong"])
            .limit(120),
        case("caps").program(&["caps"]),
        case("edu")
            .program(&["edu"])
            .machine(teaching_device)
            .prints(&["off the bus when its driver let go", "out of its reach"]),
        case("edu-4")
            .program(&["edu"])
            .machine(|machine| {
                teaching_device(machine);
                machine.cpus = 4;
            })
            .prints(&["off the bus when its driver let go", "out of its reach"]),
        refuses(case("refused"), 1),
        refuses(case("refused-4"), 4),
        case("share").program(&["share", "20000"]).prints(&["sum 2666466670000"]).limit(60),
        case("share-4")
            .program(&["share"])
            .machine(|machine| machine.cpus = 4)
            .prints(&["sum 333328333350000"])
            .limit(60),
        case("args").program(&args).prints(&shown.iter().map(String::as_str).collect::<Vec<_>>()),
        case("no-such-program").program(&["nonesuch"]).status(127).prints(&["nonesuch"]),
        case("smp-4").program(&["hello"]).machine(|machine| machine.cpus = 4).prints(&[arch.name()]),
        case("threads").program(&["threads"]).machine(|machine| machine.cpus = 4).prints(&["on 4 CPUs"]),
        case("threads-1").program(&["threads"]).prints(&["on 1 CPUs"]),
        // The clock counts instructions: no timer may wait for more of them than that. Without an x2APIC,
        // whose timer a newer QEMU sets by an instruction that it does not expect to look at that clock.
        //
        // It counts on one CPU: of two, QEMU lets one run for up to 100 ms of that clock before it looks at the
        // other. What another CPU waits for, with its interrupts off, is a lock of the tree or of a table. A
        // revocation holds those for one deletion at a time, and none of them from the end of one slice to the
        // beginning of the next. So that wait ends with a slice, even if it loses every race before; and a
        // slice, with all that comes between a timer and its sleeper, is what is measured here: 2,400
        // instructions on x86_64, 5,150 on ppc64le.
        case("revoke")
            .program(&["revoke", "100000", "100000"])
            .machine(move |machine| {
                machine.extra.extend(["-icount".into(), "shift=0".into()]);
                if arch == Arch::X86_64 {
                    machine.cpu = Some("max,-x2apic".into());
                }
            })
            .limit(120),
        case("crowd")
            // Asked for are 2048; the vector registers of ppc64le alone take 1152, whole cache lines as they are.
            .program(&["crowd", "10000", if arch == Arch::X86_64 { "1920" } else { "2368" }])
            .machine(|machine| machine.memory = 512)
            .prints(&["10000 threads"])
            .limit(60),
        case("pingpong").program(&["pingpong"]).prints(&["1000 rounds"]),
        case("pingpong-4").program(&["pingpong"]).machine(|machine| machine.cpus = 4),
        case("debugger").program(&["debugger"]).prints(&[
            "5 steps",
            "the child ended with 42",
            "found 0x5eed0123456789ab in a vector register",
            "ended with 139",
        ]),
        case("debugger-4").program(&["debugger"]).machine(|machine| machine.cpus = 4).prints(&["5 steps"]),
        case("emulator").program(&["emulator"]).prints(&["1000 results right"]),
        case("emulator-4").program(&["emulator"]).machine(|machine| machine.cpus = 4),
        case("pager").program(&["pager"]).prints(&["ELF is there", "the client ended with 0"]),
        case("pager-4").program(&["pager"]).machine(|machine| machine.cpus = 4),
        case("chain").program(&["chain"]).prints(&["0 overtaken"]),
        case("chain-4").program(&["chain"]).machine(|machine| machine.cpus = 4).prints(&["0 overtaken"]),
        case("ring").program(&["ring"]).prints(&["sum 333328333350000"]),
        case("ring-4")
            .program(&["ring"])
            .machine(|machine| machine.cpus = 4)
            .prints(&["sum 333328333350000"]),
        supervised(case("supervisor"), 1),
        supervised(case("supervisor-4"), 4),
        case("supervisor-gives-up")
            .program(&["supervisor", "gives-up"])
            .prints(&["given up after 3 restarts", "sums: Gone"])
            .status(1),
        console_server(case("console"), 1),
        console_server(case("console-4"), 4),
        budgeted(case("supervisor-budget"), 1),
        budgeted(case("supervisor-budget-4"), 4),
        console_reader(case("console-reads"), 1),
        console_reader(case("console-reads-4"), 4),
        reads_a_disk(case("disk"), 1),
        reads_a_disk(case("disk-4"), 4),
        case("migrate").program(&["migrate"]).machine(|machine| machine.cpus = 4).limit(120),
        case("rseq").program(&["rseq"]).machine(|machine| machine.cpus = 4).limit(120),
        case("rseq-1").program(&["rseq"]).limit(120),
        case("barrier")
            .program(&["barrier"])
            .machine(|machine| machine.cpus = 2)
            .prints(&["barrier: 0 of"])
            .limit(120),
        case("prompt-cpus")
            .machine(|machine| machine.cpus = 4)
            .types(&[
                (PROMPT, "cpus\r"),
                ("(4 on)", ""),
                (PROMPT, "cpu off 2\r"),
                ("0 1 3 (3 on)", ""),
                (PROMPT, "cpu off 0\r"),
                ("must stay on", ""),
                (PROMPT, "cpu on 2\r"),
                ("(4 on)", ""),
                (PROMPT, "poweroff 3\r"),
            ])
            .status(3),
        case("memory-1-gib")
            .program(&["hello"])
            .machine(|machine| machine.memory = 1024)
            .prints(&[arch.name()]),
        case("a-hang").program(&["spin"]).limit(3).expect(Expect::TimeLimit),
        case("a-qemu-that-refuses")
            .program(&["hello"])
            .machine(|machine| machine.cpu = Some("no-such-cpu".into()))
            .expect(Expect::DidNotStart)
            .prints(&["no-such-cpu"]),
        case("a-qemu-that-is-missing")
            .program(&["hello"])
            .machine(|machine| machine.qemu = "no-such-qemu".into())
            .expect(Expect::DidNotStart)
            .prints(&["no-such-qemu"]),
        case("prompt")
            .types(&[
                (PROMPT, "list\r"),
                ("primes", ""),
                (PROMPT, "hello\r"),
                (&greeting, ""),
                (PROMPT, "nonesuch\r"),
                ("no such program", ""),
                (PROMPT, "spin &\r"),
                ("[1] spin", ""),
                (PROMPT, "ps\r"),
                ("spin", ""),
                (PROMPT, "kill 1\r"),
                (PROMPT, "poweroff 5\r"),
            ])
            .status(5),
        crash("panic", "kernel panic: panicked at kernel/src/provoke.rs"),
        crash("fault", "page fault (vector 14|data storage (vector 0x300"),
        crash("overflow", "stack overflow"),
        trespass("read"),
        trespass("write"),
        trespass("execute"),
        trespass("trap"),
        case("prompt-ctrl-d").types(&[(PROMPT, "\x04")]),
    ];
    match arch {
        Arch::X86_64 => {
            cases.push(
                case("firmware-qboot")
                    .program(&["hello"])
                    .machine(|m| (m.firmware, m.cpus) = (Firmware::Qboot, 4))
                    .prints(&["x86_64"]),
            );
            // It assigns no base address.
            cases.push(
                case("edu-qboot")
                    .program(&["edu"])
                    .machine(|machine| {
                        teaching_device(machine);
                        machine.firmware = Firmware::Qboot;
                    })
                    .prints(&["off the bus when its driver let go", "out of its reach"]),
            );
            // Without CPUID.0BH, the other place where a CPU finds its name.
            cases.push(
                case("cpu-qemu64")
                    .program(&["hello"])
                    .machine(|m| (m.cpu, m.cpus) = (Some("qemu64,cpuid-0xb=off".into()), 4))
                    .prints(&["x86_64"]),
            );
            // Nobody vouches for the TSCs.
            cases.push(conforms(case("cpu-without-a-hypervisor"), "max,-hypervisor"));
            // Neither XSAVE nor SMAP nor SMEP.
            cases.push(conforms(case("cpu-qemu64-conforms"), "qemu64"));
            cases.push(conforms(case("cpu-without-avx"), "max,-avx,-xsaveopt"));
        }
        Arch::Ppc64le => {
            cases.insert(
                0,
                case("firmware-slof")
                    .program(&["hello"])
                    .machine(|m| m.firmware = Firmware::Slof)
                    .prints(&["ppc64le"])
                    .limit(120),
            );
            // The matrix runs programs with it; this is for the console's interrupt.
            cases.push(
                case("xive-prompt")
                    .types(&[(PROMPT, "hello\r"), (&greeting, ""), (PROMPT, "poweroff 5\r")])
                    .machine(|m| m.interrupts = Interrupts::Xive)
                    .prints(&["radix, XIVE"])
                    .status(5),
            );
            // A line, and messages.
            cases.push(
                case("xive-edu")
                    .program(&["edu"])
                    .machine(|machine| {
                        teaching_device(machine);
                        (machine.interrupts, machine.cpus) = (Interrupts::Xive, 4);
                    })
                    .prints(&["radix, XIVE", "out of its reach"]),
            );
            cases.push(reads_a_disk(case("xive-disk"), 4).and_machine(|m| m.interrupts = Interrupts::Xive));
            cases.push(conforms(case("cpu-power10"), "power10"));
        }
    }
    cases
}

/// A server that dies twice by itself and once by force, and a client that does not mind.
fn supervised(case: Case, cpus: u32) -> Case {
    case.program(&["supervisor"]).machine(move |machine| machine.cpus = cpus).prints(&[
        "server: killed by a fault (status 139); restarted (1)",
        "server: killed (status 137); restarted (2)",
        "server: killed by a fault (status 139); restarted (3)",
        "sums: 1000 sums, 2 calls made again",
    ])
}

/// Lines that two clients write piece by piece come out whole, all of them.
fn console_server(case: Case, cpus: u32) -> Case {
    let lines = |count: u32| {
        (0..count)
            .map(move |number| format!("line {number} of {count}, written piece by piece and not torn\n"))
    };
    Case { prints: lines(40).chain(lines(41)).collect(), ..case }
        .program(&["supervisor", "console"])
        .machine(move |machine| machine.cpus = cpus)
}

/// What a refused access is depends on the machine and its QEMU: all ones, or a fault of the program.
fn refuses(case: Case, cpus: u32) -> Case {
    case.program(&["refused"])
        .machine(move |machine| {
            teaching_device(machine);
            machine.cpus = cpus;
        })
        .prints(&[
            "load ended with 0|load ended with 139",
            "store ended with 0|store ended with 139",
            "call ended with 0",
            "the machine goes on",
        ])
}

/// A process that takes all the CPU time it gets has a tenth.
fn budgeted(case: Case, cpus: u32) -> Case {
    case.program(&["supervisor", "budget"])
        .machine(move |machine| machine.cpus = cpus)
        .prints(&["a fifth of a CPU or less"])
}

/// A client gets what is typed from the console's server.
fn console_reader(case: Case, cpus: u32) -> Case {
    case.program(&["supervisor", "echo"])
        .machine(move |machine| machine.cpus = cpus)
        .types(&[("type a line", "abc\r")])
        .prints(&["you typed abc"])
}

/// A disk is read whole while every CPU computes, though its driver dies at work, by itself and by force.
fn reads_a_disk(case: Case, cpus: u32) -> Case {
    let disk = super::disk::Disk::new();
    let right = format!("{} blocks, {:#018x}", disk.blocks(), disk.checksum());
    case.program(&["supervisor", "disk"])
        .machine(move |machine| (machine.cpus, machine.disk) = (cpus, Some(disk.file())))
        .prints(&[
            &right,
            "driver: killed by a fault (status 139); restarted",
            "driver: killed (status 137); restarted",
        ])
        .limit(180)
}

/// `HV-1`: what optional features stand behind works on this CPU too.
fn conforms(case: Case, cpu: &'static str) -> Case {
    const CASES: [&str; 9] = [
        "hv_1_with_what_there_is",
        "time_1_ping_pong",
        "time_2_no_sleep_is_short",
        "time_3_deadlines_that_pass_while_they_are_armed",
        "trap_1_registers_over_preemption",
        "fpu_1_vectors_over_preemption",
        "fpu_2_a_new_thread_finds_nobodys_vectors",
        "usr_2_pages_that_are_not_there",
        "smp_3_off_and_on",
    ];
    let words: Vec<&str> = ["conformance", "each"].into_iter().chain(CASES).collect();
    case.kernel(Variant::default().for_testing())
        .program(&words)
        .machine(move |machine| (machine.cpu, machine.cpus) = (Some(cpu.into()), 4))
        .prints(&["9 passed, 0 failed"])
        .limit(120)
}

/// What init prints when it waits for a command.
const PROMPT: &str = "\n> ";
