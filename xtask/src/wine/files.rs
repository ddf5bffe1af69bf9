// SPDX-License-Identifier: MIT OR Apache-2.0

//! What is run under Wine: the files of Windows, and the stand-ins.

use std::path::PathBuf;

use anyhow::Result;

use super::example;
use crate::windows::build::{self, Artifact, DriverImage, UserImage};
use crate::windows::linker::Linker;
use crate::windows::toolchain::Toolchain;
use crate::windows::{DRIVERS, PROGRAMS};
use crate::workspace::Workspace;

/// The Filter Manager.
const FILTER_MANAGER: DriverImage = DriverImage {
    package: "wine-fltmgr",
    image: "fltmgr.sys",
    exports: &[
        "FltBuildDefaultSecurityDescriptor",
        "FltCloseClientPort",
        "FltCloseCommunicationPort",
        "FltCreateCommunicationPort",
        "FltFreeSecurityDescriptor",
        "FltObjectDereference",
        "FltObjectReference",
        "FltRegisterFilter",
        "FltSendMessage",
        "FltStartFiltering",
        "FltUnregisterFilter",
    ],
    force_integrity: false,
};

/// A client driver that makes work.
const LOAD_GENERATOR: DriverImage = DriverImage {
    package: "loadgen",
    image: "loadgen.sys",
    exports: &[],
    force_integrity: false,
};

/// The hello driver in Rust; those in C and C++ are built in `example`.
const HELLO: DriverImage = DriverImage {
    package: "hello-rs",
    image: "hello-rs.sys",
    exports: &[],
    force_integrity: false,
};

/// Programs and DLLs that are not shipped.
const USER_OF_TESTS: [UserImage; 5] = [
    UserImage {
        package: "hello-service",
        image: "hello-service.exe",
        artifact: Artifact::Program("hello-service"),
    },
    UserImage {
        package: "wine-fltlib",
        image: "fltlib.dll",
        artifact: Artifact::Dll,
    },
    UserImage {
        package: "wine-bcryptprimitives",
        image: "bcryptprimitives.dll",
        artifact: Artifact::Dll,
    },
    UserImage {
        package: "wine-fltlib",
        image: "port-conformance.exe",
        artifact: Artifact::Program("port-conformance"),
    },
    UserImage {
        package: "scenarios",
        image: "scenarios.exe",
        artifact: Artifact::Program("scenarios"),
    },
];

/// The files, by where they go.
#[derive(Debug, Default)]
pub(super) struct Files {
    /// To system32/drivers.
    pub(super) drivers: Vec<PathBuf>,
    /// To system32.
    pub(super) user: Vec<PathBuf>,
}

/// Builds everything into `wine` of the target folder.
pub(super) fn build(workspace: &Workspace, toolchain: Toolchain, linker: &Linker) -> Result<Files> {
    let folder = workspace.target().join("wine");
    let mut files = Files::default();
    let shipped = DRIVERS.iter().map(|shipped| &shipped.driver);
    for driver in shipped.chain([&FILTER_MANAGER, &LOAD_GENERATOR, &HELLO]) {
        let linked = build::driver(workspace, toolchain, linker, driver, &folder)?;
        files.drivers.push(linked.path);
    }
    for user in PROGRAMS.iter().chain(&USER_OF_TESTS) {
        files
            .user
            .push(build::user(workspace, toolchain, user, &folder)?);
    }
    example::build(workspace, &folder, FILTER_MANAGER.exports, &mut files)?;
    Ok(files)
}
