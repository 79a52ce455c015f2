//! The part that talks to QEMU, through its plugin interface (`qemu-plugin.h`).
//!
//! The functions are QEMU's own, found in its executable when it loads this library. Versions 1 (QEMU
//! 4.2 to 8.2) and 2 (9.0) of the interface differ from the later ones, as far as this plugin goes,
//! in one function: where an instruction's bytes are had from. QEMU refuses a plugin for another
//! version than those it knows: 9.0 and later none below 2.
//!
//! Each CPU's counter is touched by that CPU's thread only; the table of them by all.

use crate::count::{Counter, Kind, calls};
use crate::options::Options;
use std::ffi::{CStr, c_char, c_int, c_uint, c_void};
use std::sync::{Mutex, OnceLock};

/// `qemu_plugin_id_t`.
type Id = u64;
/// `QEMU_PLUGIN_CB_NO_REGS`.
const NO_REGISTERS: c_int = 0;

/// An opaque translation block.
#[repr(C)]
struct Block(c_void);
/// An opaque instruction.
#[repr(C)]
struct Instruction(c_void);

/// The interface version this was built for; QEMU checks it before anything else.
#[unsafe(no_mangle)]
pub static qemu_plugin_version: c_int = if cfg!(feature = "interface3") {
    3
} else if cfg!(feature = "interface2") {
    2
} else {
    1
};

unsafe extern "C" {
    fn qemu_plugin_register_vcpu_tb_trans_cb(id: Id, callback: extern "C" fn(Id, *mut Block));
    fn qemu_plugin_register_atexit_cb(id: Id, callback: extern "C" fn(Id, *mut c_void), data: *mut c_void);
    fn qemu_plugin_tb_n_insns(block: *const Block) -> usize;
    fn qemu_plugin_tb_get_insn(block: *const Block, index: usize) -> *mut Instruction;
    fn qemu_plugin_insn_size(instruction: *const Instruction) -> usize;
    fn qemu_plugin_insn_vaddr(instruction: *const Instruction) -> u64;
    #[cfg(not(feature = "interface3"))]
    fn qemu_plugin_insn_data(instruction: *const Instruction) -> *const u8;
    #[cfg(feature = "interface3")]
    fn qemu_plugin_insn_data(instruction: *const Instruction, to: *mut u8, room: usize) -> usize;
    fn qemu_plugin_register_vcpu_insn_exec_cb(
        instruction: *mut Instruction,
        callback: extern "C" fn(c_uint, *mut c_void),
        registers: c_int,
        data: *mut c_void,
    );
}

/// Most CPUs that are counted.
const CPUS: usize = 64;

struct State {
    options: Options,
    counters: [Mutex<Counter>; CPUS],
}

static STATE: OnceLock<State> = OnceLock::new();

/// QEMU's call when it has loaded the library. Nonzero refuses, and QEMU ends.
///
/// # Safety
/// QEMU's promise: `arguments` are `count` C strings.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qemu_plugin_install(
    id: Id,
    _info: *const c_void,
    count: c_int,
    arguments: *const *const c_char,
) -> c_int {
    let words: Vec<String> = (0..usize::try_from(count).unwrap_or(0))
        .map(|index| {
            // SAFETY: `index` is below `count`, and each argument is a C string, as the caller
            // promises.
            unsafe { CStr::from_ptr(*arguments.add(index)) }.to_string_lossy().into_owned()
        })
        .collect();
    let options = match Options::parse(words.iter().map(String::as_str)) {
        Ok(options) => options,
        Err(error) => {
            eprintln!("oracle: {error}");
            return -1;
        }
    };
    let state = State { options, counters: std::array::from_fn(|_| Mutex::new(Counter::default())) };
    if STATE.set(state).is_err() {
        eprintln!("oracle: loaded twice");
        return -1;
    }
    // SAFETY: `id` is this plugin's, and both functions live as long as the library, which QEMU
    // never unloads unless asked by the plugin.
    unsafe {
        qemu_plugin_register_vcpu_tb_trans_cb(id, translated);
        qemu_plugin_register_atexit_cb(id, ended, std::ptr::null_mut());
    }
    0
}

/// The bytes of an instruction, at most 16 of them.
///
/// # Safety
/// `instruction` is one QEMU gave to the running translation callback.
unsafe fn bytes_of(instruction: *const Instruction, room: &mut [u8; 16]) -> &[u8] {
    // SAFETY: the instruction is valid, as the caller promises.
    let size = unsafe { qemu_plugin_insn_size(instruction) }.min(room.len());
    #[cfg(not(feature = "interface3"))]
    // SAFETY: the instruction is valid, and QEMU keeps `size` bytes of it during the callback.
    room[..size]
        .copy_from_slice(unsafe { std::slice::from_raw_parts(qemu_plugin_insn_data(instruction), size) });
    #[cfg(feature = "interface3")]
    // SAFETY: the instruction is valid, and `room` holds at least `size` bytes.
    let size = unsafe { qemu_plugin_insn_data(instruction, room.as_mut_ptr(), size) }.min(size);
    &room[..size]
}

/// QEMU has translated a block: every instruction of it gets a callback that knows its kind.
extern "C" fn translated(_: Id, block: *mut Block) {
    let Some(state) = STATE.get() else { return };
    // SAFETY: QEMU hands out a block that is valid during this call, and so are its instructions,
    // whose indices are below their number. `executed` lives as long as the library.
    unsafe {
        for index in 0..qemu_plugin_tb_n_insns(block) {
            let instruction = qemu_plugin_tb_get_insn(block, index);
            let mut room = [0; 16];
            let bytes = bytes_of(instruction, &mut room);
            let kind = state.options.classify(qemu_plugin_insn_vaddr(instruction), bytes);
            let data = std::ptr::without_provenance_mut(kind as usize);
            qemu_plugin_register_vcpu_insn_exec_cb(instruction, executed, NO_REGISTERS, data);
        }
    }
}

/// A CPU is about to execute an instruction of the kind in `data`.
extern "C" fn executed(cpu: c_uint, data: *mut c_void) {
    let kind = match data.addr() {
        kind if kind == Kind::Entry as usize => Kind::Entry,
        kind if kind == Kind::Kernel as usize => Kind::Kernel,
        kind if kind == Kind::Low as usize => Kind::Low,
        kind if kind == Kind::LowCall as usize => Kind::LowCall,
        _ => Kind::Other,
    };
    let counter = STATE.get().and_then(|state| state.counters.get(cpu as usize));
    if let Some(Ok(mut counter)) = counter.map(Mutex::lock) {
        counter.step(kind);
    }
}

/// QEMU ends: write what was counted.
extern "C" fn ended(_: Id, _: *mut c_void) {
    let Some(state) = STATE.get() else { return };
    let counters: Vec<Counter> = state
        .counters
        .iter()
        .filter_map(|counter| counter.lock().ok().map(|counter| counter.clone()))
        .collect();
    let boot = counters.iter().find_map(Counter::boot);
    let (total, shortest, median) = calls(counters.iter());
    let rows = [("boot", boot), ("calls", Some(total)), ("call_min", shortest), ("call_median", median)];
    let text: String =
        rows.iter().filter_map(|(name, value)| value.map(|value| format!("{name} {value}\n"))).collect();
    if let Err(error) = std::fs::write(&state.options.out, text) {
        eprintln!("oracle: cannot write {}: {error}", state.options.out.display());
    }
}
