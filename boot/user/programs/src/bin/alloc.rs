//! Takes memory until it is refused, checks it, gives it back, and takes as much again. (Which is
//! as much only if nobody else takes memory meanwhile.)
#![no_std]
#![no_main]

use user_rt::alloc::vec::Vec;
use user_rt::{Args, Error, Mapping, println};

user_rt::entry!(main);

/// Bytes asked for at a time.
const PIECE: usize = 256 * 1024;
const WORDS: usize = PIECE / size_of::<u64>();
/// Words between two that are written: each page has several, none is skipped.
const STRIDE: usize = 251;
/// Pieces to take at most, so that the list of them has its memory beforehand: 4 GiB.
const MOST: usize = 16 * 1024;

fn main(_: Args) -> u8 {
    let mut pieces = Vec::new();
    if pieces.try_reserve_exact(MOST).is_err() {
        println!("alloc: no memory for the list");
        return 3;
    }
    let mut taken = [0; 2];
    for (pass, taken) in taken.iter_mut().enumerate() {
        let stopped_by = loop {
            if pieces.len() == MOST {
                break None;
            }
            match Mapping::new(PIECE) {
                Ok(piece) => {
                    let Some(piece) = Piece::write(piece, pieces.len() as u64) else {
                        println!("alloc: pass {pass}: piece {} is not zeroed", pieces.len());
                        return 1;
                    };
                    pieces.push(piece);
                }
                Err(error) => break Some(error),
            }
        };
        if stopped_by.is_some_and(|error| error != Error::NoMemory) {
            println!("alloc: pass {pass}: refused with {stopped_by:?}, not NoMemory");
            return 1;
        }
        if let Some(bad) = pieces.iter().zip(0..).find(|(piece, tag)| !piece.check(*tag)) {
            println!("alloc: pass {pass}: piece {} has changed", bad.1);
            return 1;
        }
        *taken = pieces.len();
        println!("alloc: pass {pass}: {} KiB, then {stopped_by:?}", pieces.len() * PIECE / 1024);
        while let Some(Piece(mapping)) = pieces.pop() {
            if let Err(error) = mapping.unmap() {
                println!("alloc: pass {pass}: giving back: {error:?}");
                return 1;
            }
        }
    }
    if taken[0] == 0 {
        println!("alloc: nothing at all was given");
        return 1;
    }
    if taken[0] != taken[1] {
        println!("alloc: what was given back is not all there again");
        return 1;
    }
    println!("alloc: ok");
    0
}

/// A piece of memory that holds its own number all over.
struct Piece(Mapping);

impl Piece {
    /// `None` if the memory is not zeroed.
    fn write(mapping: Mapping, tag: u64) -> Option<Self> {
        let start = mapping.start().cast::<u64>();
        for index in (0..WORDS).step_by(STRIDE) {
            // SAFETY: `index` lies in the mapping, which is owned, aligned and writable.
            unsafe {
                let word = start.add(index);
                if word.read_volatile() != 0 {
                    return None;
                }
                word.write_volatile(tag ^ index as u64);
            }
        }
        Some(Self(mapping))
    }

    fn check(&self, tag: u64) -> bool {
        let start = self.0.start().cast::<u64>();
        // SAFETY: as in `write`.
        (0..WORDS)
            .step_by(STRIDE)
            .all(|index| unsafe { start.add(index).read_volatile() } == tag ^ index as u64)
    }
}
