// SPDX-License-Identifier: MIT OR Apache-2.0
//! A service for the hello drivers, whatever language they are written in: it has them say hello,
//! answers them, and lists what it heard.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use fltport::{Client, Event, Message, MessageSet, Options};
use fltport_abi::text::Text;
use nt_host::transport::{Capabilities, Endpoint, MessageDevice, Server};
use nt_host::{Config, DriverImage, Kernel, Unload};

fltport_abi::messages! {
    /// What each of the drivers says, but for the provider's name.
    provider MESSAGES = "hello";

    /// Hello.
    notification 1 "hello" Hello<'a> {
        /// Which.
        count: u32,
        /// In words.
        text: Text<'a>,
    }

    /// What became of a question.
    notification 2 "answer" Answer {
        /// Which.
        count: u32,
        /// The outcome's number.
        outcome: u32,
        /// What the decider said, or the default.
        fine: bool,
    }

    /// How are you?
    request 3 "how-are-you" Question {
        /// Which.
        count: u32,
    } -> /// So.
    Mood {
        /// Well.
        fine: bool,
    }

    /// Says hello.
    command 4 "greet" Greet {
        /// How often.
        times: u32,
    } -> /// It will.
    Greeted {
        /// How often it has before.
        before: u32,
    }
}

const FLTPORT: DriverImage = DriverImage {
    name: fltport_driver::IMAGE_NAME,
    entry: fltport_driver::driver_entry,
    force_integrity: false,
};

const SOON: Duration = Duration::from_secs(20);

/// In which order the drivers are loaded.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum First {
    /// The common driver.
    Common,
    /// The client driver; and a hello is said before there is a common driver.
    #[allow(dead_code, reason = "the static import has no such order")]
    Client,
}

/// Where the service finds the hosted kernel.
fn listen(name: &str) -> (Server, PathBuf) {
    let folder = std::env::temp_dir().join(format!("{name}-{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("a folder");
    let endpoint = Endpoint::bind(folder.join("socket")).expect("a socket");
    let log = Arc::new(|line: &str| eprintln!("{line}"));
    let server = Server::start(endpoint, MessageDevice, &Capabilities::default(), log);
    (server.expect("it listens"), folder)
}

/// Answers, and lists what is told until the answer to this question has been told.
fn serve(client: &Client, last: u32) -> Vec<String> {
    let mut heard = Vec::new();
    loop {
        match client.next(SOON).expect("something happens") {
            Event::Request(request) => {
                let question: Question = request.record.decode().expect("a question");
                // Odd ones are well.
                let fine = question.count % 2 == 1;
                request.reply(&Mood { fine }).expect("in time");
            }
            Event::Notification(record) if record.message() == Hello::NUMBER => {
                let hello: Hello<'_> = record.decode().expect("a hello");
                heard.push(format!("{}: {}", hello.count, hello.text));
            }
            Event::Notification(record) => {
                let answer: Answer = record.decode().expect("an answer");
                heard.push(format!("{}: {}", answer.count, answer.fine));
                assert_eq!(answer.outcome, 0, "answered");
                if answer.count == last {
                    return heard;
                }
            }
            Event::Outcome(_) => {}
            other => panic!("{other:?}"),
        }
    }
}

/// Loads both drivers, has the client driver greet twice, and unloads them.
pub(crate) fn greet_twice(driver: &DriverImage, language: &str, first: First) {
    let kernel = Kernel::boot(Config::default());
    let order = match first {
        First::Common => [&FLTPORT, driver],
        First::Client => [driver, &FLTPORT],
    };
    for image in order {
        kernel.load(image).expect("DriverEntry succeeds");
    }
    let (server, folder) = listen(&format!("{}-{}", driver.name, first == First::Client));
    let client = Client::connect(Options::new("greeter").socket(server.path()));
    let client = client.expect("it is accepted");
    let both = MessageSet::from([Hello::NUMBER, Answer::NUMBER]);
    // A client driver registers in a work item when the common driver comes after it; the common
    // driver tells when that has happened.
    while let Err(error) = client.subscribe(driver.name, both, Question::NUMBER) {
        assert!(matches!(error, fltport::Error::NoProvider(_)), "{error}");
        client.next(SOON).expect("a provider registers");
    }
    let done = client.command(driver.name, &Greet { times: 2 });
    let done: Greeted = done.expect("it is done").decode().expect("a result");
    assert_eq!(done.before, 0);
    let hello = |count| format!("{count}: Hello from {language}");
    let answer = |count, fine| format!("{count}: {fine}");
    let expected = [
        hello(0),
        hello(1),
        answer(1, true),
        hello(2),
        answer(2, false),
    ];
    assert_eq!(serve(&client, 2), expected);

    client.close();
    for image in [driver, &FLTPORT] {
        kernel
            .unload(image.name, Unload::Stop)
            .expect("it can be stopped");
    }
    kernel.shutdown_clean();
    server.stop();
    std::fs::remove_dir_all(folder).expect("the folder is there");
}
