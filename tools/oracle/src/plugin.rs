//! The part that talks to QEMU, through its plugin interface (`qemu-plugin.h`).
//!
//! The functions are QEMU's own, found in its executable when it loads this library. Versions 1 (QEMU
//! 4.2 to 8.2) and 2 (9.0) of the interface differ from the later ones, as far as this plugin goes,
//! in one function: where an instruction's bytes are had from. QEMU refuses a plugin for another
//! version than those it knows: 9.0 and later none below 2.
//!
//! What is kept of each CPU is touched by that CPU's thread only, until the end; its lock is there for
//! that end and is never waited for. Which windows are open is looked at before it is taken.

use crate::code::{Code, Told};
use crate::count::{Counter, Kind};
use crate::instruction::Event;
use crate::options::{Options, Write};
use crate::recorder::{Place as Mode, Recorder};
use crate::report;
use crate::window::{Access, Windows};
use std::collections::HashMap;
use std::ffi::{CStr, c_char, c_int, c_uint, c_void};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Mutex, OnceLock};
use stream::{Edge, Event as Recorded, Instruction as Known, Mark, Scope};

/// `qemu_plugin_id_t`.
type Id = u64;
/// `QEMU_PLUGIN_CB_NO_REGS`.
const NO_REGISTERS: c_int = 0;
/// `QEMU_PLUGIN_MEM_RW`: whatever the access. To ask for one kind is no use: QEMU 7.2 calls back for
/// stores where loads were asked for, and for both where stores were.
const ALL_ACCESSES: c_int = 3;

/// `qemu_plugin_meminfo_t`: opaque.
type MemoryInfo = u32;
/// `qemu_plugin_vcpu_mem_cb_t`: CPU, access, virtual address, the callback's own data.
type MemoryCallback = extern "C" fn(c_uint, MemoryInfo, u64, *mut c_void);

/// An opaque translation block.
#[repr(C)]
struct Block(c_void);
/// An opaque instruction.
#[repr(C)]
struct Instruction(c_void);

/// Where an access goes; opaque.
#[repr(C)]
struct Place(c_void);

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
    fn qemu_plugin_insn_haddr(instruction: *const Instruction) -> *const c_void;
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
    fn qemu_plugin_register_vcpu_mem_cb(
        instruction: *mut Instruction,
        callback: MemoryCallback,
        registers: c_int,
        which: c_int,
        data: *mut c_void,
    );
    fn qemu_plugin_mem_is_store(info: MemoryInfo) -> bool;
    fn qemu_plugin_mem_size_shift(info: MemoryInfo) -> c_uint;
    fn qemu_plugin_get_hwaddr(info: MemoryInfo, address: u64) -> *const Place;
    fn qemu_plugin_hwaddr_is_io(place: *const Place) -> bool;
    fn qemu_plugin_hwaddr_phys_addr(place: *const Place) -> u64;
}

/// Tells pages of the host's memory apart as finely as any guest has pages.
const PAGE_SHIFT: u32 = 12;
/// Most CPUs that are watched.
const CPUS: usize = 64;

struct State {
    options: Options,
    cpus: [Cpu; CPUS],
    /// The windows of all CPUs that are open, bit n for window n.
    open: AtomicU32,
    /// The stream, if one is written.
    recorder: Option<Recorder>,
    /// Of the stream: the memory that user code is executed from.
    code: Code,
    /// Where the host has the guest's memory; 0 until a kernel's instruction was seen.
    memory: AtomicU64,
    /// What callbacks of the stream are given: one for each instruction, for ever.
    sites: Mutex<HashMap<Site, &'static Site>>,
}

/// An instruction, and what its execution is in the stream.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct Site {
    at: u64,
    what: What,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum What {
    Kernel,
    User {
        page: u64,
    },
    Executes(Known),
    /// By its code.
    Mark(u32),
}

/// What is kept of one CPU.
#[derive(Default)]
struct Cpu {
    /// Its own windows that are open.
    open: AtomicU32,
    mode: Mode,
    told: Told,
    watched: Mutex<Watched>,
}

#[derive(Default)]
struct Watched {
    counter: Counter,
    windows: Windows,
}

impl State {
    /// The windows that are open on a CPU. Relaxed: a guest that wants its CPUs to agree on when a
    /// window opens makes them wait for one another itself.
    fn open(&self, cpu: &Cpu) -> u32 {
        cpu.open.load(Ordering::Relaxed) | self.open.load(Ordering::Relaxed)
    }
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
    let recorder = match options.write {
        Write::Counts => None,
        Write::Stream => match Recorder::create(&options.out) {
            Ok(recorder) => Some(recorder),
            Err(error) => {
                eprintln!("oracle: cannot make {}: {error}", options.out.display());
                return -1;
            }
        },
    };
    let cpus = std::array::from_fn(|_| Cpu::default());
    let translated = if recorder.is_some() { translated_for_stream } else { translated };
    let state = State {
        options,
        cpus,
        open: AtomicU32::new(0),
        recorder,
        code: Code::default(),
        memory: AtomicU64::new(0),
        sites: Mutex::default(),
    };
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

/// QEMU has translated a block: every instruction of it gets a callback that knows its kind, and
/// those that matter get more.
extern "C" fn translated(_: Id, block: *mut Block) {
    let Some(state) = STATE.get() else { return };
    let arch = state.options.arch;
    // SAFETY: QEMU hands out a block that is valid during this call, and so are its instructions,
    // whose indices are below their number. The callbacks live as long as the library.
    unsafe {
        for index in 0..qemu_plugin_tb_n_insns(block) {
            let instruction = qemu_plugin_tb_get_insn(block, index);
            let mut room = [0; 16];
            let bytes = bytes_of(instruction, &mut room);
            let at = qemu_plugin_insn_vaddr(instruction);
            let kind = state.options.classify(at, bytes);
            let on_execution = |callback: extern "C" fn(c_uint, *mut c_void), data: u64| {
                let data = std::ptr::without_provenance_mut(data as usize);
                qemu_plugin_register_vcpu_insn_exec_cb(instruction, callback, NO_REGISTERS, data);
            };
            match kind {
                Kind::Kernel => on_execution(executed_in_kernel, at),
                _ => on_execution(executed, kind as u64),
            }
            if let Some(mark) = Mark::of(arch, bytes) {
                on_execution(marked, mark.code().into());
            }
            if kind != Kind::Kernel {
                continue;
            }
            match arch.instruction(bytes).and_then(Event::of) {
                Some(Event::Reload) => on_execution(happened::<{ Event::Reload as u8 }>, at),
                Some(Event::Barrier) => on_execution(happened::<{ Event::Barrier as u8 }>, at),
                Some(Event::Serialize) => on_execution(happened::<{ Event::Serialize as u8 }>, at),
                Some(Event::InterruptReturn) => {
                    on_execution(happened::<{ Event::InterruptReturn as u8 }>, at)
                }
                Some(Event::CallReturn) => on_execution(happened::<{ Event::CallReturn as u8 }>, at),
                Some(Event::Ask) => on_execution(happened::<{ Event::Ask as u8 }>, at),
                None => {}
            }
            let data = std::ptr::without_provenance_mut(at as usize);
            qemu_plugin_register_vcpu_mem_cb(instruction, touched, NO_REGISTERS, ALL_ACCESSES, data);
        }
    }
}

/// The same, where the stream is written: few instructions are watched.
extern "C" fn translated_for_stream(_: Id, block: *mut Block) {
    let Some(state) = STATE.get() else { return };
    let arch = state.options.arch;
    // SAFETY: as in `translated`.
    unsafe {
        for index in 0..qemu_plugin_tb_n_insns(block) {
            let instruction = qemu_plugin_tb_get_insn(block, index);
            let at = qemu_plugin_insn_vaddr(instruction);
            let watch = |what: What| {
                let Some(site) = state.site(Site { at, what }) else { return };
                let data = std::ptr::from_ref(site).cast_mut().cast();
                qemu_plugin_register_vcpu_insn_exec_cb(instruction, recorded, NO_REGISTERS, data);
            };
            let in_kernel = at >= arch.kernel_from();
            if !in_kernel && !state.options.may_be_user(at) {
                // Firmware, and a kernel that has not moved to its own addresses yet.
                continue;
            }
            let host = qemu_plugin_insn_haddr(instruction).addr() as u64;
            if index == 0 && in_kernel {
                state.learn_memory(at, host);
                watch(What::Kernel);
            } else if index == 0 {
                let page = host.wrapping_sub(state.memory.load(Ordering::Relaxed)) >> PAGE_SHIFT;
                state.code.executes(page);
                watch(What::User { page });
            }
            let mut room = [0; 16];
            let bytes = bytes_of(instruction, &mut room);
            let known = arch.instruction(bytes);
            if let Some(mark) = Mark::of(arch, bytes) {
                watch(What::Mark(mark.code()));
            } else if in_kernel && let Some(known) = known {
                watch(What::Executes(known));
            }
            let callback = match known {
                Some(Known::Dcbst) => touched_block::<{ Known::Dcbst as u8 }>,
                Some(Known::Icbi) => touched_block::<{ Known::Icbi as u8 }>,
                _ => stored,
            };
            let data = std::ptr::without_provenance_mut(at as usize);
            qemu_plugin_register_vcpu_mem_cb(instruction, callback, NO_REGISTERS, ALL_ACCESSES, data);
        }
    }
}

impl State {
    /// The one value for a site, made the first time.
    fn site(&self, site: Site) -> Option<&'static Site> {
        let mut sites = self.sites.lock().ok()?;
        Some(sites.entry(site).or_insert_with(|| Box::leak(Box::new(site))))
    }

    /// The kernel's instruction `at` lies at `host`: so much is known of where the guest's memory is.
    /// It is one block of the host's.
    fn learn_memory(&self, at: u64, host: u64) {
        if host != 0 && self.memory.load(Ordering::Relaxed) == 0 {
            self.memory.store(host.wrapping_sub(self.options.arch.physical(at)), Ordering::Relaxed);
        }
    }
}

/// A CPU is about to execute the instruction whose [`Site`] is at `data`.
extern "C" fn recorded(number: c_uint, data: *mut c_void) {
    let Some((state, cpu)) = find(number) else { return };
    let Some(recorder) = &state.recorder else { return };
    // SAFETY: the callback was registered with a site, which lives for ever and is never written.
    let site = unsafe { &*data.cast::<Site>() };
    let event = match site.what {
        What::Kernel if cpu.mode.enters_kernel() => {
            cpu.told.begin_anew();
            Recorded::EntersKernel
        }
        What::User { page } if cpu.mode.enters_user() => {
            cpu.told.begin_anew();
            Recorded::EntersUser { page }
        }
        What::User { page } if state.code.fetches(&cpu.told, page) => Recorded::Fetches { page },
        What::Kernel | What::User { .. } => return,
        What::Executes(instruction) => Recorded::Executes(instruction),
        What::Mark(code) => match Mark::from_code(code) {
            Some(mark) => Recorded::Marks(mark),
            None => return,
        },
    };
    recorder.add(number as u8, event, site.at);
}

/// Where an access goes.
enum Target {
    /// In a device, by physical address.
    Device(u64),
    /// In memory, by its offset there.
    Memory(u64),
}

/// Where the access goes that a memory callback was called for.
///
/// # Safety
/// `info` and `address` are what the running memory callback was called with.
unsafe fn target(info: MemoryInfo, address: u64) -> Option<Target> {
    // SAFETY: the caller's promise.
    let place = unsafe { qemu_plugin_get_hwaddr(info, address) };
    if place.is_null() {
        return None;
    }
    // SAFETY: `place` is valid during this callback.
    unsafe {
        let physical = qemu_plugin_hwaddr_phys_addr(place);
        Some(if qemu_plugin_hwaddr_is_io(place) {
            Target::Device(physical)
        } else {
            Target::Memory(physical)
        })
    }
}

/// The instruction at `data` has touched `address`.
extern "C" fn stored(number: c_uint, info: MemoryInfo, address: u64, data: *mut c_void) {
    // SAFETY: `info` is this callback's.
    if !unsafe { qemu_plugin_mem_is_store(info) } {
        return;
    }
    let Some((state, cpu)) = find(number) else { return };
    let Some(recorder) = &state.recorder else { return };
    let arch = state.options.arch;
    // SAFETY: both are this callback's.
    let event = match unsafe { target(info, address) } {
        Some(Target::Device(at)) if arch.interrupts_a_cpu(at) => Recorded::Interrupts,
        Some(Target::Memory(at)) if state.code.was_executed(at >> PAGE_SHIFT) => {
            let line = at & !((1 << arch.line_shift()) - 1);
            if !state.code.stores(&cpu.told, line, at >> PAGE_SHIFT) {
                return;
            }
            Recorded::StoresCode { line }
        }
        _ => return,
    };
    recorder.add(number as u8, event, data.addr() as u64);
}

/// The instruction at `data`, `dcbst` or `icbi`, has touched the block around `address`.
extern "C" fn touched_block<const KNOWN: u8>(
    number: c_uint,
    info: MemoryInfo,
    address: u64,
    data: *mut c_void,
) {
    let Some((state, _)) = find(number) else { return };
    let Some(recorder) = &state.recorder else { return };
    // SAFETY: both are this callback's.
    let Some(Target::Memory(at)) = (unsafe { target(info, address) }) else { return };
    if state.code.was_executed(at >> PAGE_SHIFT) {
        let line = at & !((1 << state.options.arch.line_shift()) - 1);
        let event = if KNOWN == Known::Dcbst as u8 {
            Recorded::WritesBack { line }
        } else {
            Recorded::Invalidates { line }
        };
        recorder.add(number as u8, event, data.addr() as u64);
    }
}

/// A CPU is about to execute the kernel instruction at `data`.
extern "C" fn executed_in_kernel(cpu: c_uint, data: *mut c_void) {
    let Some((state, cpu)) = find(cpu) else { return };
    let open = state.open(cpu);
    if let Ok(mut watched) = cpu.watched.lock() {
        watched.counter.step(Kind::Kernel);
        watched.windows.step(open, data.addr() as u64);
    }
}

/// A CPU is about to execute an instruction of the kind in `data`, which is another.
extern "C" fn executed(cpu: c_uint, data: *mut c_void) {
    let kind = match data.addr() {
        kind if kind == Kind::Entry as usize => Kind::Entry,
        kind if kind == Kind::Low as usize => Kind::Low,
        kind if kind == Kind::LowCall as usize => Kind::LowCall,
        _ => Kind::Other,
    };
    let Some((_, cpu)) = find(cpu) else { return };
    if let Ok(mut watched) = cpu.watched.lock() {
        watched.counter.step(kind);
    }
}

/// A CPU is about to execute the mark whose code is `data`.
extern "C" fn marked(cpu: c_uint, data: *mut c_void) {
    let Some((state, cpu)) = find(cpu) else { return };
    let Some(mark) = Mark::from_code(data.addr() as u32) else { return };
    let window = usize::from(mark.window);
    let set = match mark.scope {
        Scope::ThisCpu => &cpu.open,
        Scope::AllCpus => &state.open,
    };
    match mark.edge {
        Edge::Begin => set.fetch_or(1 << window, Ordering::Relaxed),
        Edge::End => set.fetch_and(!(1 << window), Ordering::Relaxed),
    };
    if mark.scope == Scope::ThisCpu
        && let Ok(mut watched) = cpu.watched.lock()
    {
        match mark.edge {
            Edge::Begin => watched.windows.begin(window),
            Edge::End => watched.windows.end(window),
        }
    }
}

/// A CPU is about to execute the kernel instruction at `data`, which is an [`Event`].
extern "C" fn happened<const EVENT: u8>(cpu: c_uint, data: *mut c_void) {
    let Some((state, cpu)) = find(cpu) else { return };
    let open = state.open(cpu);
    let event = Event::ALL[usize::from(EVENT)];
    if open != 0
        && let Ok(mut watched) = cpu.watched.lock()
    {
        watched.windows.event(open, event, data.addr() as u64);
    }
}

/// The kernel instruction at `data` has touched `address`.
extern "C" fn touched(cpu: c_uint, info: MemoryInfo, address: u64, data: *mut c_void) {
    let Some((state, cpu)) = find(cpu) else { return };
    let open = state.open(cpu);
    let arch = state.options.arch;
    if open == 0 || address < arch.kernel_from() {
        return;
    }
    // SAFETY: this is a memory callback, and `info` and `address` are what it was called with.
    let place = unsafe { qemu_plugin_get_hwaddr(info, address) };
    // SAFETY: QEMU checks for null, and else `place` is valid during this callback.
    if place.is_null() || unsafe { qemu_plugin_hwaddr_is_io(place) } {
        return;
    }
    // SAFETY: as above; and `info` is this callback's.
    let (physical, bytes, access) = unsafe {
        let access = if qemu_plugin_mem_is_store(info) { Access::Store } else { Access::Load };
        (qemu_plugin_hwaddr_phys_addr(place), 1u64 << qemu_plugin_mem_size_shift(info), access)
    };
    if let Ok(mut watched) = cpu.watched.lock() {
        // An access that is not aligned may touch two lines.
        let last = (physical + bytes - 1) >> arch.line_shift();
        for line in physical >> arch.line_shift()..=last {
            watched.windows.touch(open, access, line, address, data.addr() as u64);
        }
    }
}

fn find(cpu: c_uint) -> Option<(&'static State, &'static Cpu)> {
    let state = STATE.get()?;
    Some((state, state.cpus.get(cpu as usize)?))
}

/// QEMU ends: write what was seen.
extern "C" fn ended(_: Id, _: *mut c_void) {
    let Some(state) = STATE.get() else { return };
    if let Some(recorder) = &state.recorder {
        if let Err(error) = recorder.finish() {
            eprintln!("oracle: cannot write {}: {error}", state.options.out.display());
        }
        return;
    }
    let (mut counters, mut windows) = (Vec::new(), Vec::new());
    for cpu in &state.cpus {
        if let Ok(mut watched) = cpu.watched.lock() {
            let watched = std::mem::take(&mut *watched);
            counters.push(watched.counter);
            windows.push(watched.windows);
        }
    }
    let text = report::text(state.options.arch, &counters, &windows);
    if let Err(error) = std::fs::write(&state.options.out, text) {
        eprintln!("oracle: cannot write {}: {error}", state.options.out.display());
    }
}
