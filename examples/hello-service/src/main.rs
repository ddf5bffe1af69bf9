// SPDX-License-Identifier: MIT OR Apache-2.0
//! Has the drivers that are named on the command line say hello twice, and prints what they tell.

use anyhow::{Result, ensure};
use fltport::{Client, Options};

fn main() -> Result<()> {
    let providers: Vec<String> = std::env::args().skip(1).collect();
    ensure!(!providers.is_empty(), "usage: hello-service PROVIDER...");
    let client = Client::connect(Options::new("hello-service"))?;
    for provider in &providers {
        let (before, heard) = hello_service::greet(&client, provider, 2)?;
        println!("{provider} has said hello {before} times, and goes on:");
        for line in heard {
            println!("{line}");
        }
    }
    client.close();
    Ok(())
}
