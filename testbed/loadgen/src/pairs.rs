// SPDX-License-Identifier: MIT OR Apache-2.0
//! Pairs of notifications: room for the second half is booked before the first one is told.

use crate::load::Load;
use crate::messages::{Begun, Ended, Pairs};
use crate::share::{self, Share};
use fltport_abi::message::Message;
use fltport_client::{Booking, Provider};
use fltport_nt::Result;

/// So many of a thread's pairs are begun at one time.
const AT_ONCE: usize = 16;

/// IRQL: PASSIVE_LEVEL. Starts the job; its number.
pub(crate) fn start(load: &Load, pairs: &Pairs) -> Result<u32> {
    share::start(load, pairs.threads, pairs.count, (), Share::pair)
}

impl Share<()> {
    fn pair(&self, provider: &Provider<Load>) {
        let mut begun: [Option<(u64, Booking)>; AT_ONCE] = [const { None }; AT_ONCE];
        'all: for first in (0..self.count).step_by(AT_ONCE) {
            for (number, place) in (first..self.count).zip(&mut begun) {
                if self.is_over(provider) {
                    break 'all;
                }
                self.end(place.take());
                *place = self.begin(provider, number);
            }
        }
        for place in &mut begun {
            self.end(place.take());
        }
    }

    /// The first half, if there is room for the second.
    fn begin(&self, provider: &Provider<Load>, number: u64) -> Option<(u64, Booking)> {
        let Ok(booking) = provider.book::<Ended>(Ended::FIXED) else {
            self.progress.unbooked();
            return None;
        };
        self.progress.offered(provider.notify(&Begun {
            number,
            job: self.progress.number,
            thread: self.thread,
        }));
        Some((number, booking))
    }

    fn end(&self, begun: Option<(u64, Booking)>) {
        if let Some((number, booking)) = begun {
            self.progress.offered(booking.notify(&Ended {
                number,
                job: self.progress.number,
                thread: self.thread,
            }));
        }
    }
}
