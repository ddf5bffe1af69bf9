// SPDX-License-Identifier: MIT OR Apache-2.0
//! The Filter Manager as a driver and a service meet it: each test boots a kernel and loads one
//! small driver.

mod broken;
mod connections;
mod driver;
mod messages;
mod registration;
mod unload;
