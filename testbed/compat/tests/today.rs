// SPDX-License-Identifier: MIT OR Apache-2.0
//! Today's header and stub with today's common driver: every function, without a service.

use compat::{NEW_CLIENT, call_everything};
use fltport_nt::bindings::STATUS_SUCCESS;
use nt_host::{Config, DriverImage, Kernel, Unload};

const FLTPORT: DriverImage = DriverImage {
    name: fltport_driver::IMAGE_NAME,
    entry: fltport_driver::driver_entry,
    force_integrity: false,
};

const NO_DECIDER: u32 = 2;

#[test]
fn every_function_does_what_the_header_says() {
    let kernel = Kernel::boot(Config::default());
    kernel.load(&FLTPORT).expect("the common driver");
    kernel.load(&NEW_CLIENT).expect("it registers");
    for _ in 0..3 {
        let outcomes = call_everything();
        // The backlog listens.
        assert_eq!(outcomes.listening, 1);
        let told = [
            outcomes.notify,
            outcomes.reserve,
            outcomes.commit,
            outcomes.reserve_to_discard,
            outcomes.book,
            outcomes.notify_booked,
            outcomes.book_to_unbook,
            outcomes.request,
            outcomes.request_async,
            outcomes.statistics,
        ];
        assert_eq!(told, [STATUS_SUCCESS; 10], "{outcomes:?}");
        // The default that was declared.
        assert_eq!((outcomes.outcome, outcomes.yes), (NO_DECIDER, 1));
        let later = (outcomes.async_outcome, outcomes.async_yes);
        assert_eq!((outcomes.completed, later), (1, (NO_DECIDER, 1)));
    }
    for name in [NEW_CLIENT.name, FLTPORT.name] {
        kernel
            .unload(name, Unload::Stop)
            .expect("it can be stopped");
    }
    kernel.shutdown_clean();
}
