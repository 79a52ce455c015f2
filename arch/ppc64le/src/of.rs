//! Open Firmware's client interface (IEEE 1275-1994 §6, and its PowerPC binding).
//!
//! Firmware is 32-bit and big-endian and runs untranslated, so a call changes the machine's mode on
//! the way in and out. Arguments are big-endian cells below 4 GiB: in real mode the low half of a
//! kernel pointer is its physical address, and the image lies at 4 MiB. After `quiesce` nobody
//! calls again.

use core::arch::global_asm;

// r3: the argument array, r4: firmware's entry. All nonvolatile registers are kept here, since
// 32-bit code saves only the halves it knows of. Firmware returns in its own mode to the flip
// sequence; r1 may have lost its top half, which the back chain in the frame still has.
global_asm!(
    ".pushsection .text.of, \"ax\", @progbits",
    ".balign 16",
    ".globl spandrel_of_enter",
    "spandrel_of_enter:",
    "mflr 0",
    "std 0, 16(1)",
    "mfcr 0",
    "std 0, 8(1)",
    "stdu 1, -256(1)",
    "std 2, 64(1)",
    ".irp r, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31",
    "std \\r, 8*\\r-24(1)",
    ".endr",
    "mtspr 26, 4",
    "mfmsr 5",
    "clrldi 5, 5, 1", // not SF
    "li 6, 1",
    "andc 5, 5, 6", // not LE
    "mtspr 27, 5",
    "bcl 20, 31, 1f",
    "1: mflr 6",
    "addi 6, 6, 2f - 1b",
    "mtlr 6",
    "rfid",
    "2:",
    "spandrel_flip",
    "clrldi 1, 1, 32",
    ".irp r, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31",
    "ld \\r, 8*\\r-24(1)",
    ".endr",
    "ld 2, 64(1)",
    "ld 1, 0(1)",
    "ld 0, 8(1)",
    "mtcr 0",
    "ld 0, 16(1)",
    "mtlr 0",
    "extsw 3, 3",
    "blr",
    ".popsection",
);

unsafe extern "C" {
    fn spandrel_of_enter(arguments: *mut u32, entry: u64) -> i64;
}

/// Cells of one call: three of header, then arguments and results.
const CELLS: usize = 3 + 10;

/// Room for a property's name and its zero. IEEE 1275 says 31 characters; firmware has longer ones.
pub(crate) const NAME_BYTES: usize = 64;

/// A package or an instance, as firmware names them.
pub type Cell = u32;

/// The client interface. Made once, from what firmware passed in r5.
pub struct Firmware {
    entry: u64,
    cells: [u32; CELLS],
}

/// The service is missing or failed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct OfError;

/// Arguments that are addresses: the low half of a pointer into the image or stack.
pub fn address<T: ?Sized>(of: *const T) -> Cell {
    of.cast::<u8>() as u64 as u32
}

impl Firmware {
    /// # Safety
    /// `entry` is what firmware passed, it has not been quiesced, and translation is off.
    pub unsafe fn new(entry: u64) -> Self {
        Self { entry, cells: [0; CELLS] }
    }

    /// Calls a service with `arguments`; the first of `results` cells comes back.
    pub fn call(&mut self, service: &core::ffi::CStr, arguments: &[Cell], results: usize) -> Result<Cell, OfError> {
        self.cells = [0; CELLS];
        self.cells[0] = address(service.as_ptr()).to_be();
        self.cells[1] = (arguments.len() as u32).to_be();
        self.cells[2] = (results as u32).to_be();
        for (slot, argument) in self.cells[3..].iter_mut().zip(arguments) {
            *slot = argument.to_be();
        }
        // SAFETY: translation is off and firmware alive, as `new` was promised; the array is laid
        // out as IEEE 1275 §6.2.1 says.
        let status = unsafe { spandrel_of_enter(self.cells.as_mut_ptr(), self.entry) };
        if status != 0 {
            return Err(OfError);
        }
        // SAFETY: the array is ours; volatile, since firmware wrote into it.
        let first = unsafe { (&raw const self.cells[3 + arguments.len()]).read_volatile() };
        Ok(u32::from_be(first))
    }

    /// The second result of the last call, which had `arguments` arguments.
    fn second_result(&self, arguments: usize) -> Cell {
        // SAFETY: as in `call`.
        u32::from_be(unsafe { (&raw const self.cells[4 + arguments]).read_volatile() })
    }

    /// A service whose result is a node or instance: 0 and −1 mean that there is none.
    fn handle(&mut self, service: &core::ffi::CStr, arguments: &[Cell]) -> Option<Cell> {
        self.call(service, arguments, 1).ok().filter(|&cell| cell != 0 && cell != u32::MAX)
    }

    pub fn find(&mut self, path: &core::ffi::CStr) -> Option<Cell> {
        self.handle(c"finddevice", &[address(path.as_ptr())])
    }
    /// The root for `node` 0.
    pub fn next_sibling(&mut self, node: Cell) -> Option<Cell> {
        self.handle(c"peer", &[node])
    }
    pub fn first_child(&mut self, node: Cell) -> Option<Cell> {
        self.handle(c"child", &[node])
    }
    pub fn parent(&mut self, node: Cell) -> Option<Cell> {
        self.handle(c"parent", &[node])
    }
    pub fn open(&mut self, path: &core::ffi::CStr) -> Option<Cell> {
        self.handle(c"open", &[address(path.as_ptr())])
    }

    /// Copies a property's value into `into`. Its full length, or `None` if there is none.
    pub fn property(&mut self, node: Cell, name: &core::ffi::CStr, into: &mut [u8]) -> Option<usize> {
        self.property_at(node, address(name.as_ptr()), into)
    }

    pub(crate) fn property_at(&mut self, node: Cell, name: Cell, into: &mut [u8]) -> Option<usize> {
        let arguments = [node, name, address(into.as_mut_ptr()), into.len() as u32];
        let length = self.call(c"getprop", &arguments, 1).ok()?;
        (length != u32::MAX).then_some(length as usize)
    }

    /// Writes the name of the property after `previous` (empty: the first), zero-terminated, into
    /// `next`. Whether there is one.
    pub(crate) fn next_property(&mut self, node: Cell, previous: Cell, next: &mut [u8; NAME_BYTES]) -> bool {
        self.call(c"nextprop", &[node, previous, address(next.as_mut_ptr())], 1) == Ok(1)
    }

    /// `bytes` of memory below 4 GiB, page-aligned.
    pub fn claim(&mut self, bytes: u32) -> Result<Cell, OfError> {
        let at = self.call(c"claim", &[0, bytes, 4096], 1)?;
        if at == u32::MAX || at == 0 { Err(OfError) } else { Ok(at) }
    }

    /// Calls a method of an instance with one argument. The method's own result.
    pub fn method(&mut self, name: &core::ffi::CStr, instance: Cell, argument: Cell) -> Result<Cell, OfError> {
        let arguments = [address(name.as_ptr()), instance, argument];
        match self.call(c"call-method", &arguments, 2)? {
            0 => Ok(self.second_result(arguments.len())),
            _ => Err(OfError),
        }
    }

    /// Ends firmware's activity. The last call.
    pub fn quiesce(mut self) {
        // There is nothing to do about a firmware that cannot.
        let _ = self.call(c"quiesce", &[], 0);
    }
}
