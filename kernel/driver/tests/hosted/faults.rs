// SPDX-License-Identifier: MIT OR Apache-2.0
//! Every call that can fail fails once; and whole lives short of memory, by seed.

use crate::filters;
use crate::generator;
use crate::lasting::{a_declared_life, a_lasting_life};
use crate::life::{Life, Luck};
use crate::machine::{FLTPORT, MONITOR};
use crate::security;
use crate::service::{PATIENCE, Request, Service};
use crate::streams::wanted;
use fltport_abi::account::{Cause, Outcome};
use fltport_abi::command::{LedgerRow, flags, own};
use fltport_abi::filter::Op;
use fltport_abi::fixed::Fixed;
use fltport_abi::frame::{AsyncRequestHeader, REPLY_MAGIC, RecordKind, ReplyHeader};
use fltport_abi::hello::{StreamHello, rights, stream};
use fltport_abi::limits::MIN_QUEUE;
use fltport_abi::message::Message;
use fltport_abi::process_monitor::{PROVIDER, ProcessStart};
use fltport_abi::text::Text;
use fltport_client::BacklogPolicy;
use fltport_nt::bindings::{STATUS_ACCESS_DENIED, STATUS_FLT_DO_NOT_DETACH};
use nt_host::faults::{FaultPlan, Sweep};
use nt_host::{Config, FilterManagerStart, Unload};
use std::io::Write;
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

/// The process monitor's notifications and its request.
const EVERYTHING: u64 = 0b11_1110;
const DECIDE: u64 = 1 << 5;

const DENY: [u8; 4] = [1, 0, 0, 0];
const ALLOW: [u8; 4] = [0; 4];

/// As many faults as a sweep must find at the least; a little below what it found when it was
/// written.
const FAULTS_AT_LEAST: usize = 300;

/// Prints also where the output of tests that pass is kept back.
fn say(text: &str) {
    writeln!(std::io::stdout().lock(), "{text}").unwrap();
}

/// How many processes the monitor has offered, and how many more it may have.
#[derive(Default)]
struct Starts {
    certain: u64,
    perhaps: u64,
}

/// A process comes and goes, and the service is asked about it.
fn decided_process(life: &Life, service: &mut Service, pid: u64, verdict: [u8; 4]) -> i32 {
    let status = life.decided(
        service,
        || life.machine.start_process(pid, "/bin/heard"),
        |service, request| {
            // Who asked may have given up.
            let _late = service.reply(request, &verdict);
        },
    );
    life.busy(pid);
    life.machine.end_process(pid, 0);
    let expected = if verdict == DENY {
        STATUS_ACCESS_DENIED
    } else {
        0
    };
    assert!(
        status == expected || life.is_marred(),
        "{status:#010x} in place of {expected:#010x}"
    );
    status
}

fn allow(service: &Service, request: &Request) {
    // Who asked may have given up.
    let _late = service.reply(request, &ALLOW);
}

/// One that nobody is asked about.
fn process(life: &Life, pid: u64, image: &str) {
    assert_eq!(life.machine.start_process(pid, image), 0);
    life.busy(pid);
    life.machine.end_process(pid, 0);
}

/// Sets the exclusions and reads them; whether it is certain that they are set.
fn exclude_hidden(life: &Life, service: &Service, provider: u32) -> bool {
    // One pattern: "h".
    let list = [8, 0, 0, 0, 4, 0, 0, 0, 2, 0, b'h', 0];
    let set = life.command(service, (provider, 6), &list).is_some();
    let get = life.command(service, (provider, 7), &[]);
    assert!(!life.is_strict() || get.is_some_and(|reply| reply == list));
    set
}

/// All lists of the common driver, and a schema.
fn look_around(life: &Life, service: &Service, provider: u32) {
    life.twice("info", || service.try_info());
    life.ledger(service);
    life.check_requests(service);
    life.command(service, (0, own::CONNECTIONS), &[0; 8]);
    life.command(service, (0, own::USAGE), &[0; 8]);
    life.command(service, (0, own::SCHEMA), &provider.to_le_bytes());
}

/// What a first service goes through; the processes that it must have been told of.
fn attend(life: &Life, service: &mut Service, provider: u32) -> Starts {
    let mut starts = Starts::default();
    let verdicts = [(3000, ALLOW), (3010, DENY), (3020, ALLOW)];
    for (pid, verdict) in verdicts {
        let status = decided_process(life, service, pid, verdict);
        starts.certain += u64::from(status == 0);
    }
    let hides = exclude_hidden(life, service, provider);
    life.decided(service, || process(life, 3030, "h"), allow);
    // An exclusion that failed may have been set all the same: its result got lost.
    starts.perhaps += u64::from(!hides);
    look_around(life, service, provider);
    starts
}

/// Every process was told of, or its loss was, and a loss has a row with its cause.
fn check_starts(life: &Life, service: &mut Service, provider: u32, expected: &Starts) {
    let (came, lost) = life.told(service, (provider, 1), expected.certain);
    if !life.is_strict() {
        return;
    }
    let all = expected.certain..=expected.certain + expected.perhaps;
    assert!(
        all.contains(&(came + lost)),
        "{came} came, {lost} lost, of {all:?}"
    );
    let rows = life.ledger(service).unwrap_or_default();
    let no_memory = |row: &LedgerRow| row.lost[Cause::NoMemory.index()];
    let accounted: u64 = rows.iter().filter(|r| r.message == 1).map(no_memory).sum();
    // The ledger also has what was lost before this service came.
    assert!(lost <= accounted, "{lost} told, of {accounted} in {rows:?}");
}

/// A second service comes, and the first one goes.
fn succeed(life: &Life, mut first: Service, provider: u32) {
    let Some(mut second) = life.connect("second", rights::OBSERVE) else {
        return;
    };
    // All of them are.
    let image = filters::place::<ProcessStart<'_>>("image");
    let filter = filters::filter(ProcessStart::NUMBER, |w| {
        w.text(Op::Contains, image, Text::Utf8("/BIN/"), true)
            .expect("fits");
    });
    life.subscribe_filtered(&second, (provider, &PROVIDER), EVERYTHING, &filter);
    decided_process(life, &mut first, 3100, ALLOW);
    drop(first);
    process(life, 3110, "/bin/heard");
    let both = Starts {
        certain: 2,
        perhaps: 0,
    };
    check_starts(life, &mut second, provider, &both);
}

/// Two services, one after the other and together, then both kinds of unload.
fn an_ordinary_life(life: &Life) {
    let common = life.load(&FLTPORT);
    let monitor = life.load(&MONITOR);
    process(life, 2000, "/bin/unheard");
    if let Some(mut first) = life.connect("first", rights::ALL)
        && let Some(provider) = life.provider(&first, "process-monitor")
    {
        life.subscribe(&first, provider, EVERYTHING, DECIDE);
        let mut starts = attend(life, &mut first, provider);
        starts.certain += 1;
        check_starts(life, &mut first, provider, &starts);
        succeed(life, first, provider);
    }
    process(life, 4000, "/bin/unheard");
    let voluntary = || life.machine.kernel.unload("fltport", Unload::Filter);
    if common && monitor {
        assert_eq!(voluntary(), Err(STATUS_FLT_DO_NOT_DETACH));
    }
    life.stop(&MONITOR, monitor);
    assert_eq!(voluntary().is_ok(), common);
}

/// The client driver is there first, the Filter Manager comes last; the common driver goes while a
/// service is connected, and comes again.
fn an_early_life(life: &Life) {
    let monitor = life.load(&MONITOR);
    process(life, 2000, "/bin/staged");
    let mut common = life.load(&FLTPORT);
    process(life, 2010, "/bin/kept");
    life.machine.kernel.filter_manager_ready();
    life.machine.kernel.boot_drivers_initialized();
    let service = connect_when_listening(life);
    if let Some(service) = &service
        && let Some(provider) = life.provider(service, "process-monitor")
    {
        life.subscribe(service, provider, EVERYTHING, 0);
        process(life, 3000, "/bin/heard");
    }
    life.stop(&FLTPORT, common);
    drop(service);
    process(life, 4000, "/bin/staged");
    common = life.load(&FLTPORT);
    if let Some(service) = life.connect("again", rights::ALL) {
        // A service may ask before the work item of the client driver has registered it.
        let deadline = Instant::now() + PATIENCE;
        while life.provider(&service, "process-monitor").is_none() && !life.is_marred() {
            assert!(
                Instant::now() < deadline,
                "the monitor does not register again"
            );
            std::thread::yield_now();
        }
        life.ledger(&service);
    }
    life.stop(&FLTPORT, common);
    life.stop(&MONITOR, monitor);
}

/// The Filter Manager is asked again by a thread, after a failure a second later: not waited for.
fn connect_when_listening(life: &Life) -> Option<Service> {
    let hello = fltport_abi::hello::Hello::new("early", rights::ALL, 0).to_bytes();
    let deadline = Instant::now() + PATIENCE;
    loop {
        match Service::connect_with(&life.machine, &hello) {
            Ok(service) => return Some(service),
            Err(_) if life.is_marred() => return None,
            Err(status) => assert!(Instant::now() < deadline, "{status:#010x}"),
        }
        std::thread::yield_now();
    }
}

/// A client driver with a small backlog, questions and commands.
fn a_generated_life(life: &Life) {
    let common = life.load(&FLTPORT);
    let image = generator::image(&life.machine, 2000, BacklogPolicy::KeepOldest);
    let loaded = life.load(&image);
    if loaded {
        (0..50).for_each(|n| generator::blob(n, &[7; 100]));
        if let Some(mut service) = life.connect("generated", rights::ALL)
            && let Some(provider) = life.provider(&service, "generator")
        {
            let mut limits = [0; 16];
            limits[..4].copy_from_slice(&MIN_QUEUE.to_le_bytes());
            life.command(&service, (0, own::LIMITS), &limits);
            life.subscribe(&service, provider, 1 << 1, 1 << 2);
            (50..54).for_each(|n| generator::blob(n, &[7; 100]));
            (54..57).for_each(|n| generator::booked_blob(n, &[7; 100]));
            (57..60).for_each(|n| generator::filled_in_blob(n, &[7; 100]));
            let (came, lost) = life.told(&mut service, (provider, 1), 60);
            assert!(!life.is_strict() || came + lost == 60, "{came} and {lost}");
            life.decided(
                &mut service,
                || {
                    life.twice("ask", || {
                        generator::try_question(1, 500).map_err(|e| e.status())
                    })
                },
                |service, request| {
                    let _late = service.reply(request, &1_u64.to_le_bytes());
                },
            );
            asked_without_waiting(life, &mut service);
            let declared = [provider.to_le_bytes(), 2_u32.to_le_bytes()].concat();
            let reply = life.command(&service, (0, own::DEFAULT_REPLY), &declared);
            assert!(reply.is_none_or(|reply| reply == [0; 8]));
            life.command(&service, (provider, 3), &[8, 0, 0, 0, 1, 0, 0, 0, b'a']);
            look_around(life, &service, provider);
        }
    }
    life.stop(&image, loaded);
    life.stop(&FLTPORT, common);
}

/// A question whose answer is a command: whoever asked is told once, whatever fails.
fn asked_without_waiting(life: &Life, service: &mut Service) {
    let (sender, answers) = channel();
    let ask = || {
        let sender = sender.clone();
        let heard = move |answer| sender.send(answer).expect("waited for");
        generator::ask_async(2, 500, heard).map_err(|e| e.status())
    };
    let Some(()) = life.twice("ask without waiting", ask) else {
        return;
    };
    let deadline = Instant::now() + PATIENCE;
    let answer = loop {
        if let Ok(answer) = answers.try_recv() {
            break answer;
        }
        assert!(Instant::now() < deadline, "nobody is told");
        service.receive(Duration::from_millis(1));
        for record in service.drain_available() {
            if let Some(header) = AsyncRequestHeader::read(&record.payload)
                && record.kind == RecordKind::AsyncRequest
            {
                let reply = ReplyHeader {
                    magic: REPLY_MAGIC,
                    provider: record.header.provider,
                    message: record.header.message,
                    request: header.request,
                };
                let mut bytes = vec![0; ReplyHeader::SIZE];
                reply.write(&mut bytes).expect("fits");
                bytes.extend(2_u64.to_le_bytes());
                // It may be over.
                let _late = service.command(0, own::ANSWER, &bytes);
            }
        }
    };
    let is_answered = answer.outcome == Outcome::Answered;
    assert!(is_answered || life.is_marred(), "{answer:?}");
    assert_eq!(answer.reply.number, if is_answered { 2 } else { 0 });
    assert!(answers.try_recv().is_err(), "told twice");
}

/// A life with a configuration of who may do what.
fn a_guarded_life(life: &Life) {
    let machine = &life.machine;
    security::grant(machine, "*", "S-1-5-18", rights::ALL);
    security::grant(machine, "generator", "S-1-5-32-544", rights::ALL);
    security::allow_images(machine, &["*"]);
    let common = life.load(&FLTPORT);
    let image = generator::image(&life.machine, 0, BacklogPolicy::KeepOldest);
    let loaded = life.load(&image);
    if let Some(service) = life.connect("guarded", rights::ALL)
        && let Some(provider) = life.provider(&service, "generator")
    {
        life.subscribe(&service, provider, 1 << 1, 0);
        life.command(&service, (0, own::REFUSALS), &[0; 8]);
    }
    life.stop(&image, loaded);
    life.stop(&FLTPORT, common);
}

/// A service with a stream and a snapshot, which it hands over to another.
fn a_kept_life(life: &Life) {
    let common = life.load(&FLTPORT);
    let image = generator::image(&life.machine, 0, BacklogPolicy::KeepOldest);
    let loaded = life.load(&image);
    if loaded
        && let Some(mut first) = life.connect_stream(&wanted())
        && let Some(provider) = life.provider(&first, "generator")
    {
        (0..5).for_each(|n| generator::put(n, &[7; 20_000]));
        life.twice("a snapshot", || {
            first.subscribe_flagged(provider, 1 << 1, flags::SNAPSHOT)
        });
        let dealt = first.next_if(life.is_marred()).unwrap_or(0);
        life.command(&first, (0, own::ACKNOWLEDGE), &dealt.to_le_bytes());
        let take_over = StreamHello {
            flags: stream::RESUME | stream::TAKE_OVER,
            ..wanted()
        };
        let second = life.connect_stream(&take_over);
        drop(first);
        drop(second);
        generator::put(5, b"kept");
        drop(life.connect_stream(&wanted()));
    }
    life.stop(&image, loaded);
    life.stop(&FLTPORT, common);
}

/// A service that wants to know what runs.
fn a_watched_life(life: &Life) {
    let common = life.load(&FLTPORT);
    let loaded = life.load(&MONITOR);
    life.machine.start_process(2000, "/bin/watched");
    if loaded
        && let Some(service) = life.connect("watched", rights::ALL)
        && let Some(provider) = life.provider(&service, "process-monitor")
    {
        life.twice("a snapshot", || {
            service.subscribe_flagged(provider, 1 << 1, flags::SNAPSHOT)
        });
    }
    life.stop(&MONITOR, loaded);
    life.stop(&FLTPORT, common);
}

/// How a life begins, and what happens in it.
type Script = (FilterManagerStart, fn(&Life));

const LIVES: [Script; 8] = [
    (FilterManagerStart::Ready, an_ordinary_life),
    (FilterManagerStart::Late, an_early_life),
    (FilterManagerStart::Ready, a_generated_life),
    (FilterManagerStart::Ready, a_guarded_life),
    (FilterManagerStart::Ready, a_kept_life),
    (FilterManagerStart::Ready, a_lasting_life),
    (FilterManagerStart::Ready, a_declared_life),
    (FilterManagerStart::Ready, a_watched_life),
];

#[test]
fn every_call_that_can_fail_fails_once() {
    let mut sweep = Sweep::default();
    for (filter_manager, live) in LIVES {
        sweep.over(|config| {
            let config = Config {
                filter_manager,
                ..config
            };
            Life::run(config, Luck::OneFault, live);
        });
    }
    say(&sweep.to_string());
    let found = sweep.injected().len();
    assert!(found >= FAULTS_AT_LEAST, "{sweep}");
}

/// One call stack is met in many states of the machine: here every call of a life fails, one call a
/// life.
#[test]
fn every_call_fails_whatever_was_before() {
    let mut faults = 0;
    for (filter_manager, live) in LIVES {
        for n in 0.. {
            let plan = FaultPlan::nth(n);
            let config = Config {
                filter_manager,
                faults: plan.clone(),
                ..Config::default()
            };
            Life::run(config, Luck::OneFault, live);
            if plan.injected().is_empty() {
                break;
            }
            faults += 1;
        }
    }
    say(&format!("{faults} faults injected, each in its own life"));
    assert!(faults >= 500, "{faults}");
}

#[test]
fn lives_short_of_memory() {
    let mut faults = 0;
    for one_in in [3, 10, 50, 200] {
        for seed in 0..100 {
            let plan = FaultPlan::random(seed, one_in);
            let (filter_manager, live) = LIVES[seed as usize % LIVES.len()];
            let config = Config {
                filter_manager,
                faults: plan.clone(),
                ..Config::default()
            };
            Life::run(config, Luck::ManyFaults, live);
            faults += plan.injected().len();
        }
    }
    say(&format!("{faults} faults injected in 400 lives"));
    assert!(faults >= 1000, "{faults}");
}

/// As far as a life is one thread's, it is the same again.
#[test]
fn a_life_short_of_memory_is_lived_again() {
    let lived = |seed| {
        let plan = FaultPlan::random(seed, 20);
        let config = Config {
            faults: plan.clone(),
            ..Config::default()
        };
        Life::run(config, Luck::ManyFaults, |life| {
            let common = life.load(&FLTPORT);
            let monitor = life.load(&MONITOR);
            (0..20).for_each(|n| process(life, 2000 + 10 * n, "/bin/unheard"));
            life.stop(&MONITOR, monitor);
            life.stop(&FLTPORT, common);
        });
        let injected = plan.injected();
        let faults = injected.iter().map(|it| {
            let stack = it.stack.addresses().to_vec();
            (it.function, it.failure, stack)
        });
        faults.collect::<Vec<_>>()
    };
    for seed in 0..20 {
        assert_eq!(lived(seed), lived(seed), "seed {seed}");
    }
    assert_ne!(lived(1), lived(2));
}
