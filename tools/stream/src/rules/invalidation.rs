//! Sequences that ppc64le demands around its translation and instruction caches (Power ISA Book III
//! §5.7.6, §5.9.3, §5.10; Book II §4.4.1). Each is a small automaton: what must come next.
//!
//! On x86_64 one instruction does all of it.

use super::{BROADCAST_FLUSH, Broken, CODE_PUBLISHED, ENTRY_VISIBLE, LOAD_SYNCHRONIZED, LOCAL_FLUSH};
use crate::Instruction;
use Instruction::{
    Dcbst, Eieio, Icbi, Isync, MtPidr, Ptesync, Sync, Tlbie, TlbieAll, Tlbiel, TlbielAll, Tlbsync,
};

/// Which sequence a CPU is in the middle of.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum State {
    /// None. Whether the last thing was `ptesync`, which every invalidation wants before it.
    #[default]
    Nothing,
    AfterPtesync,
    /// After a store into the process table; then after its `ptesync`.
    EntryStored,
    EntryComplete,
    /// After `mtspr PIDR`; then after its `isync`.
    Loaded,
    LoadedSynchronized,
    /// After `tlbiel`, with so many congruence classes that are left of a process; then after its
    /// `ptesync`.
    Local {
        left: u8,
    },
    LocalComplete,
    /// After `tlbie`; after a `ptesync` that only another `tlbie` may follow; after `eieio`; after
    /// `tlbsync`.
    Broadcast,
    BroadcastAgain,
    BroadcastOrdered,
    BroadcastSynchronized,
    /// After `dcbst`; after its `sync`.
    Stored,
    StoredComplete,
    /// After `icbi`; after its `sync`.
    Invalidated,
    InvalidatedComplete,
}

/// Congruence classes of the TLB behind the first, which the form for all of a process takes: it works
/// on one at a time (§5.9.3.2; 128 of them on a POWER9).
const CLASSES: u8 = 127;

/// A CPU executes an instruction of the kernel.
pub fn executes(state: &mut State, instruction: Instruction, broken: &mut Vec<Broken>) {
    use State::*;
    let next = match (*state, instruction) {
        (EntryStored, Ptesync) => EntryComplete,
        (EntryComplete, Isync) => Nothing,
        (Loaded, Isync) => LoadedSynchronized,
        (LoadedSynchronized, Ptesync) => AfterPtesync,
        (AfterPtesync, Tlbiel) => Local { left: 0 },
        (AfterPtesync, TlbielAll) => Local { left: CLASSES },
        (Local { left }, Tlbiel) => Local { left: left.saturating_sub(1) },
        (Local { left: 0 }, Ptesync) => LocalComplete,
        (LocalComplete, Isync) => Nothing,
        (AfterPtesync | Broadcast | BroadcastAgain, Tlbie | TlbieAll) => Broadcast,
        // Between two of them, for the processors that want it.
        (Broadcast, Ptesync) => BroadcastAgain,
        (Broadcast, Eieio) => BroadcastOrdered,
        (BroadcastOrdered, Tlbsync) => BroadcastSynchronized,
        (BroadcastSynchronized, Ptesync) => AfterPtesync,
        (Nothing | AfterPtesync | Stored, Dcbst) => Stored,
        (Stored, Sync) => StoredComplete,
        (StoredComplete | Invalidated, Icbi) => Invalidated,
        (Invalidated, Sync) => InvalidatedComplete,
        (InvalidatedComplete, Isync) => Nothing,
        (state, instruction) => {
            let wanted = match state {
                Nothing | AfterPtesync => None,
                EntryStored => Some((ENTRY_VISIBLE, "ptesync after the entry")),
                EntryComplete => Some((ENTRY_VISIBLE, "isync after the entry; ptesync")),
                Loaded => Some((LOAD_SYNCHRONIZED, "isync after mtspr pidr")),
                LoadedSynchronized => Some((LOAD_SYNCHRONIZED, "ptesync after mtspr pidr; isync")),
                Local { left: 0 } => Some((LOCAL_FLUSH, "ptesync after tlbiel")),
                Local { .. } => Some((LOCAL_FLUSH, "tlbiel of every class")),
                LocalComplete => Some((LOCAL_FLUSH, "isync after tlbiel; ptesync")),
                Broadcast | BroadcastAgain => Some((BROADCAST_FLUSH, "eieio after tlbie")),
                BroadcastOrdered => Some((BROADCAST_FLUSH, "tlbsync after tlbie; eieio")),
                BroadcastSynchronized => Some((BROADCAST_FLUSH, "ptesync after tlbie; eieio; tlbsync")),
                Stored => Some((CODE_PUBLISHED, "sync after dcbst")),
                StoredComplete => Some((CODE_PUBLISHED, "icbi after dcbst; sync")),
                Invalidated => Some((CODE_PUBLISHED, "sync after icbi")),
                InvalidatedComplete => Some((CODE_PUBLISHED, "isync after icbi; sync")),
            };
            let name = instruction.name();
            if let Some((rule, wanted)) = wanted {
                broken.push((rule, format!("{name} instead of {wanted}")));
            }
            match instruction {
                Ptesync => AfterPtesync,
                MtPidr => Loaded,
                Tlbiel | TlbielAll => {
                    broken.push((LOCAL_FLUSH, "no ptesync before tlbiel".into()));
                    Local { left: if instruction == TlbielAll { CLASSES } else { 0 } }
                }
                Tlbie | TlbieAll => {
                    broken.push((BROADCAST_FLUSH, "no ptesync before tlbie".into()));
                    Broadcast
                }
                Dcbst => Stored,
                Icbi => {
                    if state != Stored {
                        broken.push((CODE_PUBLISHED, "no dcbst before icbi".into()));
                    }
                    Invalidated
                }
                _ => Nothing,
            }
        }
    };
    *state = next;
}
