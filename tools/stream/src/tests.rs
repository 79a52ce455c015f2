//! Recorded streams that break each rule, and their right twins.

use crate::Instruction::*;
use crate::{Arch, Event, Image, Instruction, Mark, RULES, Record, UserReturn, check};
use std::collections::{BTreeMap, BTreeSet};

/// Addresses that the image's tables know.
const QUICK_RETURN: u64 = 0x100;
const FULL_RETURN: u64 = 0x104;
const BARRIER: u64 = 0x200;
const CEDE: u64 = 0x300;
const INTERRUPT: u64 = 0x400;
/// One that they do not.
const ELSEWHERE: u64 = 0x900;

fn image(arch: Arch) -> Image {
    Image {
        arch,
        returns: BTreeMap::from([
            (QUICK_RETURN, UserReturn::MaybeToTheCaller),
            (FULL_RETURN, UserReturn::ToAnyThread),
        ]),
        barriers: BTreeSet::from([BARRIER]),
        enables_interrupts: BTreeSet::from([CEDE]),
        interrupts: BTreeSet::from([INTERRUPT]),
    }
}

/// The stream of a guest, event by event.
#[derive(Clone, Default)]
struct Stream(Vec<Record>);

impl Stream {
    fn event(mut self, cpu: u8, event: Event, at: u64) -> Self {
        self.0.push(Record { cpu, event, at });
        self
    }
    /// Kernel instructions, at an address that no table knows.
    fn runs(self, cpu: u8, instructions: &[Instruction]) -> Self {
        let run = |stream: Self, &instruction| stream.event(cpu, Event::Executes(instruction), ELSEWHERE);
        instructions.iter().fold(self, run)
    }
    fn at(self, cpu: u8, instruction: Instruction, at: u64) -> Self {
        self.event(cpu, Event::Executes(instruction), at)
    }
    /// A full barrier for its own sake.
    fn barrier(self, cpu: u8, instruction: Instruction) -> Self {
        self.at(cpu, instruction, BARRIER)
    }
    fn enters_kernel(self, cpu: u8) -> Self {
        self.event(cpu, Event::EntersKernel, ELSEWHERE)
    }
    /// User code of the process whose page this is.
    fn user(self, cpu: u8, page: u64) -> Self {
        self.event(cpu, Event::EntersUser { page }, 0x40_0000)
    }
    fn mark(self, cpu: u8, code: u32) -> Self {
        self.event(cpu, Event::Marks(Mark::from_code(code).unwrap()), ELSEWHERE)
    }
    fn enters_mm(self, cpu: u8) -> Self {
        self.mark(cpu, 56)
    }
    fn leaves_mm(self, cpu: u8) -> Self {
        self.mark(cpu, 57)
    }
    fn asks(self, cpu: u8) -> Self {
        self.mark(cpu, 60)
    }
    fn was_told(self, cpu: u8) -> Self {
        self.mark(cpu, 61)
    }
    /// By the return that is not serializing on x86_64.
    fn quick(self, cpu: u8, page: u64) -> Self {
        self.at(cpu, Sysretq, QUICK_RETURN).user(cpu, page)
    }
    /// By the one that is.
    fn full(self, cpu: u8, page: u64) -> Self {
        self.at(cpu, Iretq, FULL_RETURN).user(cpu, page)
    }
    fn broken(&self, arch: Arch) -> Vec<&'static str> {
        check(&image(arch), &self.0).into_iter().map(|violation| violation.rule.clause).collect()
    }
}

/// This stream breaks this rule, once, and its twin breaks none.
#[track_caller]
fn breaks(arch: Arch, clause: &str, wrong: Stream, right: Stream) {
    assert!(RULES.iter().any(|rule| rule.clause == clause), "{clause} is no rule");
    assert_eq!(wrong.broken(arch), [clause]);
    assert_eq!(right.broken(arch), [""; 0]);
}

fn x86(clause: &str, wrong: Stream, right: Stream) {
    breaks(Arch::X86_64, clause, wrong, right);
}

/// A process on two CPUs asks, on CPU 0, for core serialization; `other` is what CPU 1 does from its
/// request to its next user instruction, if there is one.
fn request(other: impl Fn(Stream) -> Stream) -> Stream {
    let asked = Stream::default().full(0, 1).full(1, 1).asks(0).enters_kernel(0).enters_kernel(1);
    other(asked.barrier(1, Locked).runs(0, &[Cpuid])).quick(0, 1).was_told(0)
}

#[test]
fn ret_2_the_other_cpu_comes_back_without_having_serialized() {
    x86(
        "RET-2",
        request(|stream| stream.quick(1, 1)),
        request(|stream| stream.runs(1, &[Cpuid]).quick(1, 1)),
    );
}

#[test]
fn ret_2_the_other_cpu_comes_back_later() {
    let later = |instructions: &[Instruction]| request(|stream| stream).runs(1, instructions).quick(1, 1);
    x86("RET-2", later(&[Wrmsr]), later(&[Serialize]));
}

#[test]
fn ret_2_the_other_cpu_was_never_interrupted() {
    let asks = |other: Stream| other.asks(0).enters_kernel(0).runs(0, &[Cpuid]).quick(0, 1).was_told(0);
    let same_process = Stream::default().full(0, 1).full(1, 1);
    let another = Stream::default().full(0, 1).full(1, 2);
    assert_eq!(asks(same_process).broken(Arch::X86_64), ["RET-2", "BAR-6"]);
    assert_eq!(asks(another).broken(Arch::X86_64), [""; 0]);
}

/// Whoever ran the process has executed a full barrier, though it serialized and whatever it runs now.
#[test]
fn bar_6_who_was_asked_has_a_barrier() {
    let asked = |other: &dyn Fn(Stream) -> Stream| {
        let asked = Stream::default().full(0, 1).full(1, 1).asks(0).enters_kernel(0).enters_kernel(1);
        other(asked.runs(0, &[Cpuid])).quick(0, 1).was_told(0)
    };
    let comes_back = |stream: Stream| stream.full(1, 1);
    let leaves = |stream: Stream| stream.full(1, 2);
    x86("BAR-6", asked(&comes_back), asked(&|stream| comes_back(stream.barrier(1, Locked))));
    x86("BAR-6", asked(&leaves), asked(&|stream| leaves(stream.barrier(1, Locked))));
    // A lock's instruction is nobody's barrier; and one from before the request is none.
    x86(
        "BAR-6",
        asked(&|stream| comes_back(stream.runs(1, &[Locked]))),
        asked(&|stream| stream.barrier(1, Mfence)),
    );
}

#[test]
fn ret_2_the_callers_own_cpu() {
    let own = |instructions: &[Instruction]| {
        Stream::default().full(0, 1).asks(0).enters_kernel(0).runs(0, instructions).quick(0, 1).was_told(0)
    };
    // Something that serialized before the request is no help.
    let before = Stream::default().full(0, 1).enters_kernel(0).runs(0, &[Cpuid]).quick(0, 1);
    let before = before.asks(0).enters_kernel(0).quick(0, 1).was_told(0);
    x86("RET-2", own(&[Mfence, Wrmsr]), own(&[Iretq]));
    x86("RET-2", before, own(&[MovToCr3]));
}

/// The seed of the whole suite: a CPU that holds the process lazily comes back without a switch.
#[test]
fn ret_2_a_lazy_cpu_comes_back() {
    let lazy = |instructions: &[Instruction]| {
        let left = Stream::default().full(0, 1).full(1, 1).enters_kernel(1).barrier(1, Locked).leaves_mm(1);
        let asked = left.asks(0).enters_kernel(0).runs(0, &[Cpuid]).quick(0, 1).was_told(0);
        asked.enters_mm(1).barrier(1, Locked).runs(1, instructions).quick(1, 1)
    };
    x86("RET-2", lazy(&[]), lazy(&[Iretq]));
}

/// Power's returns serialize: the evidence is that they were executed.
#[test]
fn ret_2_ret_4_on_power_the_return_does() {
    let stream = |back: Instruction| {
        let asked = Stream::default().runs(0, &[Stcx]).at(0, Rfid, FULL_RETURN).user(0, 1);
        asked.asks(0).enters_kernel(0).at(0, back, QUICK_RETURN).user(0, 1).was_told(0)
    };
    assert_eq!(stream(Rfscv).broken(Arch::Ppc64le), [""; 0]);
    // No such return exists; a port that had one would not be one whose returns serialize.
    assert_eq!(stream(Rfebb).broken(Arch::Ppc64le), ["RET-4", "RET-2"]);
}

#[test]
fn ret_1_an_undeclared_way() {
    let back = |at| Stream::default().full(0, 1).enters_kernel(0).at(0, Sysretq, at).user(0, 1);
    x86("RET-1", back(ELSEWHERE), back(QUICK_RETURN));
    let nothing = Stream::default().full(0, 1).enters_kernel(0).user(0, 1);
    x86("RET-1", nothing, Stream::default());
    let after_more = Stream::default().at(0, Sysretq, QUICK_RETURN).runs(0, &[Cli]).user(0, 1);
    x86("RET-1", after_more, Stream::default());
}

#[test]
fn ret_3_interrupts_on() {
    let back = |instructions: &[Instruction]| Stream::default().runs(0, instructions).full(0, 1);
    x86("RET-3", back(&[Sti]), back(&[Sti, Cli]));
    let cede = |after: &[Instruction]| {
        Stream::default()
            .runs(0, &[Stcx])
            .at(0, Hcall, CEDE)
            .runs(0, after)
            .at(0, Rfid, FULL_RETURN)
            .user(0, 1)
    };
    breaks(Arch::Ppc64le, "RET-3", cede(&[]), cede(&[Mtmsrd]));
}

#[test]
fn bar_3_two_barriers_in_the_call() {
    let call = |barriers: usize| {
        let called = Stream::default().full(0, 1).mark(0, 52).enters_kernel(0);
        let barriers = (0..barriers).fold(called, |stream, _| stream.barrier(0, Locked));
        barriers.runs(0, &[Locked]).quick(0, 1).mark(0, 53)
    };
    x86("BAR-3", call(0), call(2));
    x86("BAR-3", call(1), call(3));
    // The thread was moved: nobody knows.
    let moved = Stream::default().full(0, 1).mark(0, 52).full(1, 1).mark(1, 53);
    assert_eq!(moved.broken(Arch::X86_64), [""; 0]);
}

#[test]
fn bar_4_user_code_then_the_store() {
    let leaves = |stream: Stream| stream.leaves_mm(0);
    let left = Stream::default().full(0, 1).enters_kernel(0);
    x86("BAR-4", leaves(left.clone()), leaves(left.clone().barrier(0, Locked)));
    // A lock is a barrier that nobody may rely on.
    x86("BAR-4", leaves(left.clone().runs(0, &[Locked])), leaves(left.clone().barrier(0, Mfence)));
    let light = leaves(left.clone().barrier(0, Lwsync));
    breaks(Arch::X86_64, "BAR-4", light, leaves(left.barrier(0, Sync)));
}

#[test]
fn bar_5_the_store_then_user_code() {
    let enters = |stream: Stream| stream.full(0, 1);
    let stored = Stream::default().barrier(0, Locked).enters_mm(0);
    x86("BAR-5", enters(stored.clone()), enters(stored.barrier(0, Locked)));
}

#[test]
fn ctx_3_the_store_then_the_load() {
    let loads = |stream: Stream| stream.runs(0, &[MovToCr3]).barrier(0, Locked).full(0, 1);
    let stored = Stream::default().enters_mm(0);
    x86("CTX-3", loads(stored.clone()), loads(stored.barrier(0, Locked)));
    // The kernel's own tables are nobody's.
    assert_eq!(Stream::default().leaves_mm(0).runs(0, &[MovToCr3]).broken(Arch::X86_64), [""; 0]);
}

/// Sequences of ppc64le: what is wrong, and what is right.
#[track_caller]
fn sequence(clause: &str, wrong: &[Instruction], right: &[Instruction]) {
    let run = |instructions: &[Instruction]| Stream::default().runs(0, instructions).runs(0, &[Hcall]);
    breaks(Arch::Ppc64le, clause, run(wrong), run(right));
}

#[test]
fn ctx_4_a_load_is_synchronized() {
    sequence("CTX-4", &[MtPidr], &[MtPidr, Isync, Ptesync]);
    sequence("CTX-4", &[MtPidr, Ptesync], &[MtPidr, Isync, Ptesync]);
    sequence("CTX-4", &[MtPidr, Isync], &[MtPidr, Isync, Ptesync]);
    sequence("CTX-4", &[MtPidr, Isync, Sync], &[MtPidr, Isync, Ptesync, Sync]);
}

#[test]
fn ctx_11_an_entry_is_visible() {
    let run =
        |instructions: &[Instruction]| Stream::default().mark(0, 58).runs(0, instructions).runs(0, &[Hcall]);
    breaks(Arch::Ppc64le, "CTX-11", run(&[]), run(&[Ptesync, Isync]));
    breaks(Arch::Ppc64le, "CTX-11", run(&[Isync]), run(&[Ptesync, Isync]));
    breaks(Arch::Ppc64le, "CTX-11", run(&[Ptesync]), run(&[Ptesync, Isync]));
}

#[test]
fn tlb_2_a_local_flush_is_fenced() {
    let right = &[Ptesync, Tlbiel, Tlbiel, Ptesync, Isync];
    sequence("TLB-2", &[Tlbiel, Ptesync, Isync], right);
    sequence("TLB-2", &[Ptesync, Tlbiel], right);
    sequence("TLB-2", &[Ptesync, Tlbiel, Isync], right);
    sequence("TLB-2", &[Ptesync, Tlbiel, Ptesync], right);
    let all = |classes: usize| {
        let others = std::iter::repeat_n(Tlbiel, classes - 1);
        [Ptesync, TlbielAll].into_iter().chain(others).chain([Ptesync, Isync]).collect::<Vec<_>>()
    };
    sequence("TLB-2", &all(1), &all(128));
    sequence("TLB-2", &all(127), &all(128));
}

#[test]
fn tlb_3_a_broadcast_is_completed() {
    let right = &[Ptesync, Tlbie, Tlbie, Ptesync, Tlbie, Eieio, Tlbsync, Ptesync, Isync];
    sequence("TLB-3", &[Tlbie, Eieio, Tlbsync, Ptesync], right);
    sequence("TLB-3", &[Ptesync, Tlbie], right);
    sequence("TLB-3", &[Ptesync, Tlbie, Ptesync], right);
    sequence("TLB-3", &[Ptesync, Tlbie, Tlbsync], right);
    sequence("TLB-3", &[Ptesync, Tlbie, Eieio, Ptesync], right);
    sequence("TLB-3", &[Ptesync, Tlbie, Eieio, Tlbsync, Isync], right);
}

#[test]
fn code_2_code_is_published() {
    let right = &[Dcbst, Dcbst, Sync, Icbi, Icbi, Sync, Isync];
    sequence("CODE-2", &[Dcbst, Icbi, Sync, Isync], right);
    sequence("CODE-2", &[Dcbst, Sync], right);
    sequence("CODE-2", &[Sync, Icbi, Sync, Isync], right);
    sequence("CODE-2", &[Dcbst, Sync, Icbi, Isync], right);
    sequence("CODE-2", &[Dcbst, Sync, Icbi, Sync], right);
}

#[test]
fn mig_3_a_reservation_is_cleared() {
    let back = |instructions: &[Instruction], at| {
        let away = Stream::default().runs(0, &[Stcx]).at(0, Rfid, FULL_RETURN).user(0, 1).enters_kernel(0);
        away.runs(0, instructions).at(0, Rfid, at).user(0, 1)
    };
    breaks(Arch::Ppc64le, "MIG-3", back(&[], FULL_RETURN), back(&[Larx, Stcx], FULL_RETURN));
    breaks(Arch::Ppc64le, "MIG-3", back(&[Larx], FULL_RETURN), back(&[], QUICK_RETURN));
    // By the quick way to another process.
    let switched = |instructions: &[Instruction]| {
        let away = Stream::default().runs(0, &[Stcx]).at(0, Rfid, FULL_RETURN).user(0, 1).enters_kernel(0);
        let loaded = away.runs(0, &[MtPidr, Isync, Ptesync]).runs(0, instructions);
        loaded.at(0, Rfscv, QUICK_RETURN).user(0, 2)
    };
    breaks(Arch::Ppc64le, "MIG-3", switched(&[]), switched(&[Stcx]));
}

#[test]
fn usr_1_the_window_is_closed() {
    let back = |instructions: &[Instruction]| Stream::default().runs(0, instructions).full(0, 1);
    x86("USR-1", back(&[Stac]), back(&[Stac, Clac]));
    sequence("USR-1", &[Isync, MtAmr], &[Isync, MtAmr, Isync]);
    sequence("USR-1", &[Sync, MtAmr, Isync], &[Isync, MtAmr, MtIamr, Isync]);
    // Opened in turns with closing, from the boot code on.
    let window = [Isync, MtAmr, Isync];
    let back = |windows: usize| {
        let booted = Stream::default().runs(0, &[Isync, MtAmr, MtIamr, Isync]);
        let windows = (0..windows).fold(booted, |stream, _| stream.runs(0, &window));
        windows.runs(0, &[Stcx]).at(0, Rfid, FULL_RETURN).user(0, 1)
    };
    breaks(Arch::Ppc64le, "USR-1", back(1), back(2));
    breaks(Arch::Ppc64le, "USR-1", back(3), back(0));
}

#[test]
fn smp_1_stores_come_before_an_interrupt() {
    let by_instruction = |before: &[Instruction], by| Stream::default().runs(0, before).at(0, by, INTERRUPT);
    let right = by_instruction(&[Mfence, Lfence], Wrmsr);
    x86("SMP-1", by_instruction(&[], Wrmsr), right.clone());
    x86("SMP-1", by_instruction(&[Mfence], Wrmsr), right.clone());
    x86("SMP-1", by_instruction(&[Lfence, Mfence], Wrmsr), right);
    let call = |before: &[Instruction]| by_instruction(before, Hcall);
    breaks(Arch::Ppc64le, "SMP-1", call(&[]), call(&[Sync]));
    breaks(Arch::Ppc64le, "SMP-1", call(&[Sync, Isync]), call(&[Isync, Sync]));
    let store = |before: &[Instruction]| {
        Stream::default().runs(0, before).event(0, Event::Interrupts, ELSEWHERE).runs(0, &[Isync])
    };
    breaks(Arch::Ppc64le, "SMP-1", store(&[Lwsync]), store(&[Sync]));
    // Uncached stores come after all others there.
    assert_eq!(store(&[]).broken(Arch::X86_64), [""; 0]);
    // Another write of such a register is no interrupt.
    assert_eq!(Stream::default().runs(0, &[Wrmsr]).broken(Arch::X86_64), [""; 0]);
}

/// A page of code, and a line in it.
const PAGE: u64 = 7;
const LINE: u64 = PAGE << 12 | 0x80;

impl Stream {
    fn stores(self, cpu: u8) -> Self {
        self.event(cpu, Event::StoresCode { line: LINE }, ELSEWHERE)
    }
    fn fetches(self, cpu: u8) -> Self {
        self.event(cpu, Event::Fetches { page: PAGE }, ELSEWHERE)
    }
    /// The writer's part on ppc64le, of this line.
    fn publishes(self, cpu: u8, line: u64) -> Self {
        let back = self.runs(cpu, &[Dcbst]).event(cpu, Event::WritesBack { line }, ELSEWHERE);
        let invalid = back.runs(cpu, &[Sync, Icbi]).event(cpu, Event::Invalidates { line }, ELSEWHERE);
        invalid.runs(cpu, &[Sync, Isync])
    }
}

/// One thread stores code and asks for core serialization; the other, on CPU 1, executes it.
#[test]
fn code_2_new_code_is_fetched_by_a_core_that_has_serialized() {
    // Another process there: it is not asked. It executes the code as its own.
    let patched = |stream: Stream| {
        let stored = stream.full(0, 1).stores(0).asks(0).enters_kernel(0).runs(0, &[Cpuid]);
        stored.quick(0, 1).was_told(0)
    };
    let other = Stream::default().full(1, 2);
    x86("CODE-2", patched(other.clone()).fetches(1), patched(other.clone()).full(1, 2).fetches(1));
    // Nobody was told yet: old or new code, as it comes.
    let early = other.full(0, 1).stores(0).fetches(1);
    assert_eq!(early.broken(Arch::X86_64), [""; 0]);
    // What the kernel stored is complete when it is executed.
    let loaded = Stream::default().full(0, 1).enters_kernel(0).stores(0);
    x86("CODE-2", loaded.clone().quick(0, PAGE), loaded.full(0, PAGE));
}

#[test]
fn code_2_new_code_is_published_line_by_line() {
    let first = Stream::default().runs(0, &[Stcx]).at(0, Rfid, FULL_RETURN).user(0, 1);
    let program = |publish: &dyn Fn(Stream) -> Stream| {
        let called = first.clone().stores(0).enters_kernel(0);
        let back = publish(called).at(0, Rfscv, QUICK_RETURN).user(0, 1);
        back.asks(0).enters_kernel(0).at(0, Rfscv, QUICK_RETURN).user(0, 1).was_told(0).fetches(0)
    };
    let power = |clause, wrong, right| breaks(Arch::Ppc64le, clause, wrong, right);
    let right = program(&|stream| stream.publishes(0, LINE));
    power("CODE-2", program(&|stream| stream), right.clone());
    power("CODE-2", program(&|stream| stream.publishes(0, LINE + 0x80)), right.clone());
    // Published before the store.
    let early = |stream: Stream| stream.publishes(0, LINE).stores(0);
    power("CODE-2", program(&early), right);
    let kernel = |publish: &dyn Fn(Stream) -> Stream| {
        let stored = publish(first.clone().enters_kernel(0).stores(0));
        stored.at(0, Rfscv, QUICK_RETURN).user(0, PAGE)
    };
    power("CODE-2", kernel(&|stream| stream), kernel(&|stream| stream.publishes(0, LINE)));
}

/// A process on two CPUs unmaps, on CPU 0, what CPU 1 uses.
#[test]
fn tlb_3_who_ran_the_process_has_invalidated() {
    let unmaps = |own: &[Instruction], other: &dyn Fn(Stream) -> Stream| {
        let asked = Stream::default().full(0, 1).full(1, 1).mark(0, 54).enters_kernel(0).runs(0, own);
        other(asked).quick(0, 1).mark(0, 55)
    };
    let flushes = |stream: Stream| stream.enters_kernel(1).runs(1, &[Invlpg]).full(1, 1);
    let right = unmaps(&[Invlpg], &flushes);
    x86("TLB-3", unmaps(&[Invlpg], &|stream| stream), right.clone());
    x86("TLB-3", unmaps(&[Invlpg], &|stream| stream.enters_kernel(1).full(1, 1)), right.clone());
    x86("TLB-3", unmaps(&[], &flushes), right);
    // In the kernel it may owe it until it goes back.
    let owes = |before: &[Instruction]| {
        unmaps(&[MovToCr3], &|stream| stream.enters_kernel(1)).runs(1, before).full(1, 1)
    };
    x86("TLB-3", owes(&[]), owes(&[Invlpg]));
    // Whoever runs another process has nothing to forget.
    let another = Stream::default().full(0, 1).full(1, 2).mark(0, 54).enters_kernel(0).runs(0, &[Invlpg]);
    assert_eq!(another.quick(0, 1).mark(0, 55).broken(Arch::X86_64), [""; 0]);
}

#[test]
fn every_rule_has_its_own_law() {
    for (index, rule) in RULES.iter().enumerate() {
        assert!(RULES[..index].iter().all(|other| other.law != rule.law), "{}", rule.clause);
    }
}
