// SPDX-License-Identifier: MIT OR Apache-2.0
//! The service of the hello drivers, whatever language they are written in: has them say hello,
//! answers their question, and hears what they tell.

use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use fltport::{Client, Error, Event, Message, MessageSet};
use fltport_abi::text::Text;

fltport_abi::messages! {
    /// What each of the drivers says, under a name of its own.
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

/// Longer nothing takes, on a busy machine.
const SOON: Duration = Duration::from_secs(20);

/// Has the driver with this provider say hello so many times, and answers it: odd questions with
/// yes. What it told, a line for each message, until the last answer; and how often it had said hello
/// before it was told to.
///
/// # Errors
/// The driver is not there, somebody else answers, or nothing comes.
pub fn greet(client: &Client, provider: &str, times: u32) -> Result<(u32, Vec<String>)> {
    let told = MessageSet::from([Hello::NUMBER, Answer::NUMBER]);
    // A client driver registers in a work item when the common driver comes after it; the common
    // driver tells when that has happened.
    while let Err(error) = client.subscribe(provider, told, Question::NUMBER) {
        ensure!(matches!(error, Error::NoProvider(_)), "{error}");
        let registered = client.next(SOON);
        registered.with_context(|| format!("nobody is {provider}"))?;
    }
    let greeted: Greeted = client.command(provider, &Greet { times })?.decode()?;
    let last = greeted.before.wrapping_add(times);
    let mut heard = Vec::new();
    loop {
        match client.next(SOON).context("nothing happens")? {
            Event::Request(request) => {
                let question: Question = request.record.decode()?;
                let fine = question.count % 2 == 1;
                request.reply(&Mood { fine })?;
            }
            Event::Notification(record) if record.message() == Hello::NUMBER => {
                let hello: Hello<'_> = record.decode()?;
                heard.push(format!("{}: {}", hello.count, hello.text));
            }
            Event::Notification(record) => {
                let answer: Answer = record.decode()?;
                heard.push(format!("{}: {}", answer.count, answer.fine));
                if answer.outcome != 0 {
                    bail!("question {} has outcome {}", answer.count, answer.outcome);
                }
                if answer.count == last {
                    return Ok((greeted.before, heard));
                }
            }
            Event::Outcome(_) | Event::CommonDriver(_) => {}
            other => bail!("unexpected: {other:?}"),
        }
    }
}
