//! Programs in the background.

use core::time::Duration;
use user_rt::alloc::string::String;
use user_rt::alloc::vec::Vec;
use user_rt::{ExitReport, How, Process, ProcessInfo, SELF, println};

/// One program in the background.
struct Job {
    number: u64,
    name: String,
    process: Process,
}

/// All of them, in the order they were started.
pub struct Jobs {
    running: Vec<Job>,
    last: u64,
}

impl Jobs {
    pub const fn new() -> Self {
        Self { running: Vec::new(), last: 0 }
    }

    /// Takes a started program into the list, and says under which number.
    pub fn add(&mut self, name: String, process: Process) {
        self.last += 1;
        println!("[{}] {name}", self.last);
        self.running.push(Job { number: self.last, name, process });
    }

    /// Reports those that have ended since, and forgets them.
    pub fn reap(&mut self) {
        self.running.retain(|job| match job.process.info() {
            Ok(ProcessInfo { ended: 0, .. }) => true,
            Ok(info) => {
                println!("[{}] {}: {}", job.number, job.name, How(ExitReport(info.report)));
                false
            }
            Err(error) => {
                println!("[{}] {}: lost: {error:?}", job.number, job.name);
                false
            }
        });
    }

    /// Ends the job with this number.
    pub fn kill(&self, number: u64) {
        match self.running.iter().find(|job| job.number == number) {
            Some(job) => {
                if let Err(error) = job.process.kill() {
                    println!("kill: {error:?}");
                }
            }
            None => println!("kill: there is no job {number}; `ps` lists them"),
        }
    }

    /// Prints what runs.
    pub fn list(&self) {
        println!("JOB  STATE       MEMORY   CPU TIME  NAME");
        row("-", "init", &SELF);
        for job in &self.running {
            row(&user_rt::alloc::format!("{}", job.number), &job.name, &job.process);
        }
    }
}

fn row(number: &str, name: &str, process: &Process) {
    match process.info() {
        Ok(info) => {
            let state = if info.ended == 0 { "running" } else { "ended" };
            let cpu_time = Duration::from_nanos(info.cpu_time).as_millis();
            println!("{number:>3}  {state:8} {:>6} KiB {cpu_time:>7} ms  {name}", info.memory / 1024);
        }
        Err(error) => println!("{number:>3}  {error:?}  {name}"),
    }
}
