//! Work of which some is done at a time, and reported as it ends.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc;
use std::time::{Duration, Instant};

/// Does `work` for every item, `at_once` of them at a time, until `stop` is set. As each ends, in
/// whatever order, `ended` is told here what came of it and how long that took.
pub fn each<T: Sync, R: Send>(
    at_once: usize,
    items: &[T],
    stop: &AtomicBool,
    work: impl Fn(&T) -> R + Sync,
    mut ended: impl FnMut(&T, R, Duration),
) {
    let next = AtomicUsize::new(0);
    let (next, work) = (&next, &work);
    std::thread::scope(|scope| {
        let (send, endings) = mpsc::channel();
        for _ in 0..at_once {
            let send = send.clone();
            scope.spawn(move || {
                while let Some(item) = items.get(next.fetch_add(1, Ordering::Relaxed)) {
                    if stop.load(Ordering::Relaxed) {
                        return;
                    }
                    let begin = Instant::now();
                    let result = work(item);
                    let _ = send.send((item, result, begin.elapsed()));
                }
            });
        }
        drop(send);
        for (item, result, took) in endings {
            ended(item, result, took);
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_item_ends_once_unless_stopped() {
        let items: Vec<u32> = (0..50).collect();
        let mut seen = Vec::new();
        let stop = AtomicBool::new(false);
        each(2, &items, &stop, |item| item * 2, |item, twice, _| seen.push((*item, twice)));
        seen.sort_unstable();
        assert_eq!(seen, items.iter().map(|&item| (item, item * 2)).collect::<Vec<_>>());
        stop.store(true, Ordering::Relaxed);
        each(2, &items, &stop, |_| (), |_, (), _| panic!("it was stopped"));
    }
}
