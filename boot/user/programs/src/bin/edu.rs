//! `edu [list]`: a driver, as small as one gets, for QEMU's teaching device (`-device edu`): it computes
//! factorials, interrupts, and copies memory. With `list`, or without such a device, prints the machine's
//! functions.
//!
//! In the end it lets go of the device while that is about to write to memory: the device must be off the
//! bus by then, though the memory is still there. Where an IOMMU stands between them, the next to hold the
//! device does not reach that memory either.
#![no_std]
#![no_main]

use core::time::Duration;
use user_rt::abi::device::{Command, PciInfo};
use user_rt::device::{Interrupt, PciFunction};
use user_rt::ipc::{Deadline, Notification};
use user_rt::shared::Shared;
use user_rt::{Args, Error, MACHINE, MACHINE_NAME, Protection, TIMER, println};

user_rt::entry!(main);

/// What the device calls itself.
const VENDOR: u16 = 0x1234;
const DEVICE: u16 = 0x11e8;

/// Its registers, in BAR 0 (QEMU, `docs/specs/edu`).
mod register {
    pub const IDENTIFICATION: usize = 0x00;
    pub const LIVENESS: usize = 0x04;
    pub const FACTORIAL: usize = 0x08;
    pub const STATUS: usize = 0x20;
    pub const RAISED: usize = 0x24;
    pub const RAISE: usize = 0x60;
    pub const LOWER: usize = 0x64;
    pub const SOURCE: usize = 0x80;
    pub const TARGET: usize = 0x88;
    pub const COUNT: usize = 0x90;
    pub const COMMAND: usize = 0x98;
}
const INTERRUPT_WHEN_COMPUTED: u32 = 0x80;
/// Of the register for commands.
const COPY: u64 = 1;
const TO_MEMORY: u64 = 2;
const INTERRUPT_WHEN_COPIED: u64 = 4;
/// Where its own memory is for itself, which keeps what is copied.
const OWN: u64 = 0x4_0000;
/// A copy begins this long after it was asked for.
const DELAY: Duration = Duration::from_millis(100);

/// Which end of a register comes first. QEMU gives this device the byte order that a machine had in the
/// beginning, whatever its programs use: big-endian on a POWER.
#[derive(Clone, Copy)]
enum Order {
    Ours,
    Other,
}

struct Registers {
    at: Shared,
    order: Order,
}

impl Registers {
    /// `None`: it is some other device's, since it does not name itself.
    fn new(at: Shared) -> Option<Self> {
        const NAME: u32 = 0xed;
        let mut registers = Self { at, order: Order::Ours };
        let name = registers.read(register::IDENTIFICATION);
        registers.order = if name & 0xff == NAME { Order::Ours } else { Order::Other };
        (registers.read(register::IDENTIFICATION) & 0xff == NAME).then_some(registers)
    }
    fn read(&self, register: usize) -> u32 {
        // SAFETY: mapped, since the BAR is 1 MiB, and aligned.
        let value = unsafe { self.at.start().add(register).cast::<u32>().read_volatile() };
        match self.order {
            Order::Ours => value,
            Order::Other => value.swap_bytes(),
        }
    }
    fn write(&self, register: usize, value: u32) {
        let value = match self.order {
            Order::Ours => value,
            Order::Other => value.swap_bytes(),
        };
        // SAFETY: as in `read`.
        unsafe { self.at.start().add(register).cast::<u32>().write_volatile(value) };
    }
    fn write_wide(&self, register: usize, value: u64) {
        let value = match self.order {
            Order::Ours => value,
            Order::Other => value.swap_bytes(),
        };
        // SAFETY: as in `read`; those of copies are 8 bytes.
        unsafe { self.at.start().add(register).cast::<u64>().write_volatile(value) };
    }

    fn copy(&self, from: u64, to: u64, count: u64, how: u64) {
        self.write_wide(register::SOURCE, from);
        self.write_wide(register::TARGET, to);
        self.write_wide(register::COUNT, count);
        self.write_wide(register::COMMAND, how | COPY);
    }
}

fn main(args: Args) -> u8 {
    let found = (0..).map_while(|index| match MACHINE.pci_function(index) {
        Err(Error::NotFound) => None,
        result => Some(result),
    });
    let mut device = None;
    for (index, function) in (0..).zip(found) {
        let held = function.and_then(|function| Ok((function.info()?, function)));
        let (info, function) = match held {
            Ok(held) => held,
            Err(why) => {
                println!("edu: a function cannot be held: {why:?}");
                return 1;
            }
        };
        print(&info);
        if (info.vendor, info.device_id) == (VENDOR, DEVICE) {
            device = Some((index, function));
        }
    }
    match device {
        Some((index, device)) if args.get(1) != Some("list") => match drive(index, device) {
            Ok(()) => 0,
            Err(why) => {
                println!("edu: {why:?}");
                1
            }
        },
        _ => 0,
    }
}

fn print(info: &PciInfo) {
    println!(
        "{:02x}:{:02x}.{} {:04x}:{:04x} class {:06x}, {} interrupts",
        info.bus, info.device, info.function, info.vendor, info.device_id, info.class, info.vectors
    );
}

/// Something is not as it must be.
fn wrong(what: &str) -> Error {
    println!("edu: {what}");
    Error::BadArgument
}

fn attach(device: &PciFunction) -> Result<Registers, Error> {
    device.set_command(Command::MEMORY | Command::BUS_MASTER)?;
    Registers::new(device.registers(0)?.attach(Protection::ReadWrite)?)
        .ok_or_else(|| wrong("it does not name itself"))
}

/// The machine's `index`-th function, which is `device`.
fn drive(index: u64, device: PciFunction) -> Result<(), Error> {
    let registers = attach(&device)?;
    registers.write(register::LIVENESS, 0x1234_5678);
    if registers.read(register::LIVENESS) != !0x1234_5678 {
        return Err(wrong("its registers do not answer"));
    }
    for offset in [0x04, 0x10, 0x3c] {
        if device.write_config(offset, 4, u32::MAX) != Err(Error::NoRight) {
            return Err(wrong("a register of the kernel's was written"));
        }
    }
    let interrupt = device.interrupt(0)?;
    let news = Notification::new()?;
    interrupt.bind(&news, 1)?;
    compute(&registers, &interrupt, &news)?;
    merge(&registers, &interrupt, &news)?;
    println!("10! = 3628800, and interrupts come one by one");

    let memory = device.dma(4096)?;
    let at = device.bus_address(&memory, 0)?;
    let words = memory.attach(Protection::ReadWrite)?;
    let word = |index: usize| words.words()[index].load(core::sync::atomic::Ordering::Acquire);
    words.words()[0].store(0x5350_414e_4452_454c, core::sync::atomic::Ordering::Release);
    registers.copy(at, OWN, 8, INTERRUPT_WHEN_COPIED);
    await_interrupt(&registers, &interrupt, &news)?;
    registers.copy(OWN, at + 8, 8, TO_MEMORY | INTERRUPT_WHEN_COPIED);
    await_interrupt(&registers, &interrupt, &news)?;
    if word(1) != word(0) {
        return Err(wrong("what was copied there and back is not what it was"));
    }
    println!("copied there and back");

    // A copy is under way when the last handle goes; what is mapped stays.
    registers.copy(OWN, at + 16, 8, TO_MEMORY);
    drop((interrupt, registers, memory));
    drop(device);
    TIMER.sleep(3 * DELAY)?;
    if word(2) != 0 {
        return Err(wrong("it wrote to memory after its end"));
    }
    println!("off the bus when its driver let go");
    if MACHINE_NAME == "ppc64le" {
        let next = MACHINE.pci_function(index)?;
        attach(&next)?.copy(OWN, at + 16, 8, TO_MEMORY);
        TIMER.sleep(3 * DELAY)?;
        if word(2) != 0 {
            return Err(wrong("its memory was in its reach after its end"));
        }
    }
    println!("and its memory out of its reach");
    Ok(())
}

/// What it says when it has interrupted: why. It may go on after that.
fn await_interrupt(registers: &Registers, interrupt: &Interrupt, news: &Notification) -> Result<u32, Error> {
    let late = TIMER.now()? + Duration::from_secs(10);
    if news.wait(Deadline::At(late))? != 1 {
        return Err(wrong("another bit was signalled"));
    }
    let why = registers.read(register::RAISED);
    registers.write(register::LOWER, why);
    interrupt.acknowledge()?;
    Ok(why)
}

fn compute(registers: &Registers, interrupt: &Interrupt, news: &Notification) -> Result<(), Error> {
    registers.write(register::STATUS, INTERRUPT_WHEN_COMPUTED);
    registers.write(register::FACTORIAL, 10);
    await_interrupt(registers, interrupt, news)?;
    match registers.read(register::FACTORIAL) {
        3_628_800 => Ok(()),
        _ => Err(wrong("10! is wrong")),
    }
}

/// One interrupt until it is acknowledged, and then what came meanwhile.
fn merge(registers: &Registers, interrupt: &Interrupt, news: &Notification) -> Result<(), Error> {
    let short = || Ok::<_, Error>(Deadline::At(TIMER.now()? + Duration::from_millis(50)));
    registers.write(register::RAISE, 2);
    let late = Deadline::At(TIMER.now()? + Duration::from_secs(10));
    news.wait(late)?;
    registers.write(register::LOWER, 2);
    registers.write(register::RAISE, 4);
    if news.wait(short()?) != Err(Error::TimedOut) {
        return Err(wrong("it came again before it was acknowledged"));
    }
    interrupt.acknowledge()?;
    if news.wait(late) != Ok(1) {
        return Err(wrong("what came meanwhile was lost"));
    }
    registers.write(register::LOWER, 4);
    interrupt.acknowledge()?;
    match news.wait(short()?) {
        Err(Error::TimedOut) => Ok(()),
        _ => Err(wrong("it came out of nothing")),
    }
}
