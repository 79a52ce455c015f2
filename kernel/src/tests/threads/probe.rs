//! What cases do with instructions of the machine, on the simulated one: its registers are those of
//! [`Frame`], and some vector registers.

use super::{User, Want};
use crate::tests::ENTRY;
use abi::Error;
use arch_contract::addr::VirtAddr;
use arch_contract::pte::Paging;
use arch_contract::trap::{Access, Fault, FaultCause};
use arch_model::{Frame, Model};
use conformance::{Addresses, Deed, Feature, File, Meanwhile, Os, Probe, Touch};
use std::format;
use std::string::{String, ToString};
use std::sync::{Arc, Mutex};
use std::vec::Vec;

/// Words of the vector registers.
type Vectors = [u64; 16];

/// Where the kernel is on this machine: nowhere. This is beyond what a user can have.
const KERNEL: u64 = 0xffff_8000_0000_0000;

impl User {
    fn registers() -> Frame {
        Self::here(|here| here.turn.registers)
    }

    /// The vector registers, as an instruction sees them: the first one traps.
    fn vectors() -> Vectors {
        loop {
            match Self::cpu().vectors() {
                Some(words) => return words,
                None => Self::hand_over(Want::VectorUnitOff),
            }
        }
    }

    /// Lets time pass, and interrupts, or makes the call.
    fn during(&self, meanwhile: Meanwhile) {
        match meanwhile {
            Meanwhile::Turns(turns) => (0..turns).for_each(|_| self.pause()),
            Meanwhile::Call(number, [a, b]) => {
                Self::syscall(number, [a, b, 0, 0, 0, 0]);
            }
        }
    }
}

impl Probe for User {
    fn addresses(&self) -> Addresses {
        Addresses {
            user: Model::USER_START.0..Model::USER_END.0,
            kernel: KERNEL,
            impossible: None,
            code: ENTRY,
            read_only: Vec::new(),
            writable: Vec::new(),
        }
    }

    fn features(&self) -> &'static [Feature] {
        &[]
    }

    fn hold(&self, file: File, seed: u64, meanwhile: Meanwhile) -> Result<(), String> {
        let (is, wanted) = match file {
            File::General => {
                let mut wanted = Self::registers();
                self.during(meanwhile);
                let is = Self::registers();
                if let Meanwhile::Call(number, [a, b]) = meanwhile {
                    // The call's registers, and its two results; the vector units may have gone off.
                    wanted = Frame { number, args: [a, b, 0, 0, 0, 0], ..wanted };
                    (wanted.status, wanted.value, wanted.pc) = (is.status, is.value, wanted.pc + 4);
                }
                wanted.vectors_on = is.vectors_on;
                (format!("{is:x?}"), format!("{wanted:x?}"))
            }
            File::Vector => {
                Self::vectors();
                let wanted: Vectors = core::array::from_fn(|index| seed << 8 | index as u64);
                Self::cpu().set_vectors(wanted);
                self.during(meanwhile);
                (format!("{:x?}", Self::vectors()), format!("{wanted:x?}"))
            }
        };
        if is == wanted { Ok(()) } else { Err(format!("is {is}, should be {wanted}")) }
    }

    fn newborn(&self) -> Result<(), String> {
        let found = Arc::new(Mutex::new(Err("it did not run".to_string())));
        let seen = found.clone();
        let cpus = self.cpus_of_caller();
        let thread = self.spawn_first(cpus, move |first| {
            let wanted = Frame { pc: first.pc, sp: first.sp, args: [0; 6], ..Frame::default() };
            let result = match (first == wanted, Self::vectors()) {
                (true, words) if words == Vectors::default() => Ok(()),
                (true, words) => Err(format!("vector registers are {words:x?}")),
                (false, _) => Err(format!("is {first:x?}, should be {wanted:x?}")),
            };
            *super::lock(&seen) = result;
        });
        let joined = thread.and_then(|thread| self.join(thread));
        joined.map_err(|error| format!("a thread does not start: {error:?}"))?;
        super::lock(&found).clone()
    }

    unsafe fn touch(&self, at: u64, how: Touch) {
        let access = match how {
            Touch::Read => Access::Read,
            Touch::Write => Access::Write,
            Touch::Execute => {
                // The program counter is there; zeroes are no instruction.
                let target = VirtAddr(at);
                let undefined = Fault { cause: FaultCause::UndefinedInstruction, pc: target, address: None };
                return Self::hand_over(Want::Fault(
                    Self::cpu().user_fetch(target).err().unwrap_or(undefined),
                ));
            }
        };
        let at = VirtAddr(at);
        loop {
            let touched = Self::cpu().user_word(Self::pc(), at, access, |word| match access {
                Access::Write => word.store(at.0, core::sync::atomic::Ordering::Relaxed),
                _ => _ = word.load(core::sync::atomic::Ordering::Relaxed),
            });
            match touched {
                Ok(()) => return,
                Err(fault) => Self::hand_over(Want::Fault(fault)),
            }
        }
    }

    fn deeds(&self) -> Vec<Deed> {
        Vec::new()
    }

    fn second_door(&self) -> Option<fn(u64) -> u64> {
        None
    }
}

impl User {
    /// Where the caller may run.
    fn cpus_of_caller(&self) -> u64 {
        Self::syscall(abi::Call::ThreadAffinity as u64, [0; 6]).1
    }

    /// Starts a thread that does `body` with the registers it begins with, before anything else.
    fn spawn_first(
        &self,
        cpus: u64,
        body: impl FnOnce(Frame) + Send + 'static,
    ) -> Result<abi::Handle, Error> {
        self.spawn_raw(cpus, move |_| body(Self::registers()))
    }
}
