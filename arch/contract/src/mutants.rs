//! The mutants, one row each: name, id, the clause it breaks, what is changed, and who must notice.

use crate::Clause;
use crate::mutant::{Killer, Killer::*, On::*, Row};

macro_rules! mutants {
    ($($name:ident $id:literal $clause:ident $change:literal by [$($killer:expr),* $(,)?];)*) => {
        /// A mutant. Each variant stands at the place, or places, where it changes something.
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        #[repr(u16)]
        pub enum Mutant { $(#[doc = $change] $name),* }

        /// All mutants, in the order of [`Mutant`].
        pub const ALL: &[Row] = &[$(Row {
            id: $id,
            clause: Clause::$clause,
            change: $change,
            killers: { const KILLERS: &[Killer] = &[$($killer),*]; KILLERS },
        }),*];
    };
}

mutants! {
    M1 "m1" Bar4 "No barrier (d) between user code and the store that says the CPU left its mm." by [
        Trace(Both, "bar_4_bar_5_a_round_trip_between_sample_and_start")];
    M2 "m2" Bar5 "No barrier (e) after the stores that say a CPU has an mm." by [
        Trace(Both, "bar_4_bar_5_a_round_trip_between_sample_and_start")];
    M4 "m4" Bar3 "membarrier has no barrier (a) before it samples." by [
        Case(Both, "bar_3_store_buffering")];
    M5 "m5" Bar3 "membarrier has no barrier (c) after its last sample." by [
        Loom("bar_3_message_passing")];
    M6 "m6" Bar6 "The handler of a membarrier request has no barrier." by [
        Trace(Both, "bar_3_commands_reach_the_cpus_that_run_the_process")];
    NoBarrierInFlush "flush-no-barrier" Tlb1 "A flusher reads the CPU set without a barrier after it raised the generation." by [
        Loom("tlb_1_switch_against_flush")];
    NoBarrierInRegistration "register-no-barrier" Bar2 "A registration samples CPUs without a barrier after it stored the bit." by [
        Loom("bar_2_registration_against_switch")];
    NoBarrierGoingOff "offline-no-barrier" Smp3 "A CPU that goes off looks for requests without a barrier after it said so." by [
        Loom("smp_3_going_off_against_a_request")];
    TraceLies "trace-lies" Ret2 "A core serialization that is owed before user mode is recorded and not executed." by [
        Stream(X86_64, "ret_2_the_caller_too")];
    TraceLiesOfBarriers "trace-lies-barrier" Bar4 "Full barriers are recorded and not executed." by [
        Stream(Both, "bar_4_bar_5_a_round_trip_between_sample_and_start")];
}
