//! `share [COUNT]`: a producer and a consumer in two processes hand COUNT numbers (100,000 if not said)
//! over in shared memory. Then the producer takes the memory back, and the consumer ends by a fault.
#![no_std]
#![no_main]

use core::sync::atomic::{AtomicU64, Ordering};
use user_rt::shared::Memory;
use user_rt::{
    ARCHIVE, Args, Command, Ending, Error, Handle, Protection, Rights, initial, println, yield_now,
};

user_rt::entry!(main);

/// Numbers that fit between the two.
const ROOM: u64 = 256;
/// The consumer's handle on the memory.
const GIVEN: Handle = Handle(initial::MACHINE.0 + 1);

/// The ring: word 0 counts what was put in, 8 what was taken out, 16 is the sum in the end; the numbers
/// begin at 32.
struct Ring<'a>(&'a [AtomicU64]);

impl Ring<'_> {
    fn put(&self, number: u64, value: u64) {
        while number - self.0[8].load(Ordering::Acquire) == ROOM {
            yield_now();
        }
        self.0[32 + (number % ROOM) as usize].store(value, Ordering::Relaxed);
        // Release: the number is there. Pairs with the acquire in `take`.
        self.0[0].store(number + 1, Ordering::Release);
    }

    fn take(&self, number: u64) -> u64 {
        while self.0[0].load(Ordering::Acquire) == number {
            yield_now();
        }
        let value = self.0[32 + (number % ROOM) as usize].load(Ordering::Relaxed);
        // Release: it was read. Pairs with the acquire in `put`.
        self.0[8].store(number + 1, Ordering::Release);
        value
    }
}

fn main(args: Args) -> u8 {
    let count = args.get(2).or(args.get(1)).and_then(|text| text.parse().ok()).unwrap_or(100_000);
    let result = match args.get(1) {
        Some("consume") => consume(count),
        _ => produce(count),
    };
    match result {
        Ok(()) => 0,
        Err(why) => {
            println!("share: {why:?}");
            1
        }
    }
}

fn produce(count: u64) -> Result<(), Error> {
    let memory = Memory::new(4096)?;
    let lent = memory.copy(Rights::READ | Rights::WRITE)?;
    let shared = memory.attach(Protection::ReadWrite)?;
    let text = user_rt::alloc::format!("{count}");
    let command = Command::new("share").arg("consume").arg(&text).grant_usual();
    let consumer = command.grant(lent.handle(), Rights::all()).start(&ARCHIVE)?;
    let ring = Ring(shared.words());
    for number in 0..count {
        ring.put(number, number * number);
    }
    // The consumer says what it has got, after the last number.
    while ring.0[8].load(Ordering::Acquire) <= count {
        yield_now();
    }
    let (sum, wanted) = (ring.0[16].load(Ordering::Relaxed), (0..count).map(|number| number * number).sum());
    lent.revoke()?;
    let ended = consumer.wait()?.ending();
    println!("share: {count} numbers, sum {sum}, the consumer: {ended:?}");
    if sum == wanted && ended == Some(Ending::Fault) { Ok(()) } else { Err(Error::BadArgument) }
}

fn consume(count: u64) -> Result<(), Error> {
    let memory = Memory::from_handle(GIVEN);
    let shared = memory.attach(Protection::ReadWrite)?;
    let ring = Ring(shared.words());
    let sum = (0..count).map(|number| ring.take(number)).sum();
    ring.0[16].store(sum, Ordering::Relaxed);
    ring.0[8].store(count + 1, Ordering::Release);
    // What is lent can be taken back at any time.
    loop {
        ring.0[0].load(Ordering::Relaxed);
        yield_now();
    }
}
