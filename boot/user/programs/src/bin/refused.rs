//! `refused`: accesses that QEMU's teaching device (`-device edu`) refuses, since they are too narrow, by
//! programs that have its registers as memory and through a system call. Each costs its program at most its
//! life.
#![no_std]
#![no_main]

use user_rt::abi::device::Command as Decode;
use user_rt::device::PciFunction;
use user_rt::shared::Memory;
use user_rt::{
    ARCHIVE, Args, CONSOLE, Command, Error, Handle, MACHINE, Protection, Rights, initial, println,
};

user_rt::entry!(main);

/// A child's handle on the registers.
const GIVEN: Handle = Handle(initial::MACHINE.0 + 1);

fn main(args: Args) -> u8 {
    let result = match args.get(1) {
        Some(how) => access(how),
        None => start_each(),
    };
    match result {
        Ok(()) => 0,
        Err(why) => {
            println!("refused: {why:?}");
            1
        }
    }
}

fn device() -> Result<PciFunction, Error> {
    (0..)
        .map_while(|index| MACHINE.pci_function(index).ok())
        .find(|function| function.info().is_ok_and(|info| (info.vendor, info.device_id) == (0x1234, 0x11e8)))
        .ok_or(Error::NotFound)
}

fn start_each() -> Result<(), Error> {
    let device = device()?;
    device.set_command(Decode::MEMORY)?;
    let registers = device.registers(0)?;
    for how in ["load", "store", "call"] {
        let command = Command::new("refused").arg(how).grant_usual();
        let child = command.grant(registers.handle(), Rights::READ | Rights::WRITE).start(&ARCHIVE)?;
        println!("refused: {how} ended with {}", child.wait()?.status());
    }
    println!("refused: the machine goes on");
    Ok(())
}

fn access(how: &str) -> Result<(), Error> {
    let registers = Memory::from_handle(GIVEN).attach(Protection::ReadWrite)?;
    let register = registers.start().as_ptr();
    match how {
        // SAFETY: mapped; what the device makes of it is what this is about.
        "load" => println!("refused: found {:#x}", unsafe { register.read_volatile() }),
        // SAFETY: as above.
        "store" => unsafe { register.write_volatile(0) },
        _ => {
            // SAFETY: mapped as long as `registers` lives.
            let text = unsafe { core::slice::from_raw_parts(register, 1) };
            println!("refused: {:?}", CONSOLE.write(text));
        }
    }
    Ok(())
}
