// SPDX-License-Identifier: MIT OR Apache-2.0
//! Runs seeds. A process has one set of drivers, so each processor gets a process of its own.

use std::io::{self, Read, Write};
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::Instant;

use clap::error::ErrorKind;
use clap::{CommandFactory, Parser, ValueEnum};
use fltport_sim::plan::{Plan, Size};
use fltport_sim::{rings, scenario};
use nt_host::sim;

/// Runs fltport's drivers and hostile services under a seeded scheduler, and checks the laws after
/// each seed.
#[derive(Parser)]
#[command(name = "sim", bin_name = "cargo xtask sim")]
struct Arguments {
    /// How many seeds.
    #[arg(long, value_name = "N", default_value_t = 1000)]
    #[arg(value_parser = clap::value_parser!(u64).range(1..))]
    seeds: u64,
    /// The first one.
    #[arg(long, value_name = "SEED", default_value_t = 0)]
    from: u64,
    /// How many processes share them; as many as there are processors if it is not given.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    jobs: Option<u64>,
    /// How much each makes happen.
    #[arg(long, value_enum, default_value_t = Extent::Full)]
    size: Extent,
    /// Prints what the first seed makes happen, and every call of the kernel in its run.
    #[arg(long)]
    trace: bool,
    /// For the processes that this program starts: ends with standard input.
    #[arg(long, hide = true)]
    private: bool,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Extent {
    /// One service, few steps.
    Small,
    /// Several services, operators, processes.
    Full,
}

impl Extent {
    fn name(self) -> &'static str {
        match self {
            Extent::Small => "small",
            Extent::Full => "full",
        }
    }

    fn size(self) -> Size {
        match self {
            Extent::Small => Size::Small,
            Extent::Full => Size::Full,
        }
    }
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let processors = std::thread::available_parallelism().map_or(1, |n| n.get() as u64);
    let jobs = arguments.jobs.unwrap_or(processors).min(arguments.seeds);
    if arguments.private {
        std::thread::spawn(end_with_input);
    }
    let seeds = if arguments.trace { 1 } else { arguments.seeds };
    if arguments.from.checked_add(seeds).is_none() {
        let message = "seeds are numbers below 2^64: --from and --seeds go beyond";
        Arguments::command()
            .error(ErrorKind::ValueValidation, message)
            .exit();
    }
    if arguments.trace {
        return trace(&arguments);
    }
    if jobs == 1 {
        return run(&arguments);
    }
    match share(&arguments, jobs) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("sim: cannot start its own processes: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Ends this process when the one that started it is gone.
fn end_with_input() {
    let mut byte = [0];
    while io::stdin().read(&mut byte).is_ok_and(|length| length > 0) {}
    std::process::exit(1);
}

/// Prints a line; a reader that has seen enough ends the program.
fn say(line: std::fmt::Arguments<'_>) {
    if writeln!(io::stdout(), "{line}").is_err() {
        std::process::exit(0);
    }
}

/// Runs one seed, and shows all of it.
fn trace(arguments: &Arguments) -> ExitCode {
    let size = arguments.size.size();
    say(format_args!("{:#?}", Plan::of(arguments.from, size)));
    let outcome = sim::replay(
        arguments.from,
        move |seed| scenario::run(seed, size),
        |call| {
            let (thread, name, function) = (call.thread, call.name, call.function);
            say(format_args!(
                "{:>12} {thread:>4} {name:<20} {function}",
                call.time
            ));
        },
    );
    outcome.map_or_else(|failure| end(arguments, &failure), |_| ExitCode::SUCCESS)
}

/// Runs all seeds here.
fn run(arguments: &Arguments) -> ExitCode {
    let begin = Instant::now();
    let end_of_seeds = arguments.from.saturating_add(arguments.seeds);
    let size = arguments.size.size();
    let outcome = sim::explore(arguments.from..end_of_seeds, move |seed| {
        scenario::run(seed, size);
    });
    match outcome {
        Ok(summary) => {
            let seconds = begin.elapsed().as_secs_f64();
            println!(
                "seeds {}..{end_of_seeds}: {} calls and steps of the kernel, {} calls made to fail, \
                 {} records by rings, {} turns, {} s of virtual time in {seconds:.1} s, {:.0} seeds a second, \
                 fingerprint {:016x}",
                arguments.from,
                summary.calls,
                scenario::injected_faults(),
                rings::records(),
                summary.turns,
                summary.time / nt_host::clock::SECOND,
                summary.seeds as f64 / seconds,
                summary.trace,
            );
            ExitCode::SUCCESS
        }
        Err(failure) => end(arguments, &failure),
    }
}

/// Tells of a failure and ends the process at once: the threads of the failed seed are still there,
/// with their stacks, and no destructor of a static may run into them.
fn end(arguments: &Arguments, failure: &sim::Failure) -> ! {
    eprintln!("{failure}");
    eprintln!(
        "  see it: cargo xtask sim --size {} --from {} --trace",
        arguments.size.name(),
        failure.seed
    );
    std::process::exit(1);
}

/// Divides the seeds among processes; false if one of them found something.
fn share(arguments: &Arguments, jobs: u64) -> io::Result<bool> {
    let begin = Instant::now();
    let program = std::env::current_exe()?;
    let mut children: Vec<Child> = Vec::new();
    let (each, rest) = (arguments.seeds / jobs, arguments.seeds % jobs);
    let mut from = arguments.from;
    for job in 0..jobs {
        let seeds = each + u64::from(job < rest);
        let child = Command::new(&program)
            .args(["--private", "--jobs", "1", "--from", &from.to_string()])
            .args([
                "--seeds",
                &seeds.to_string(),
                "--size",
                arguments.size.name(),
            ])
            // Never written to: it closes when this process ends, however it does.
            .stdin(Stdio::piped())
            .spawn()?;
        children.push(child);
        from += seeds;
    }
    // `Child::wait` would close the pipe first, and so end the child.
    let mut inputs: Vec<_> = children
        .iter_mut()
        .map(|child| child.stdin.take())
        .collect();
    let mut clean = true;
    for child in &mut children {
        clean &= child.wait()?.success();
        if !clean {
            // The others need not go on.
            inputs.clear();
        }
    }
    let seconds = begin.elapsed().as_secs_f64();
    if clean {
        println!(
            "{} seeds of the {} scenario are clean: {:.0} a second in {jobs} processes",
            arguments.seeds,
            arguments.size.name(),
            arguments.seeds as f64 / seconds
        );
    }
    Ok(clean)
}
