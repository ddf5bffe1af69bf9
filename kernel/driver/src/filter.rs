// SPDX-License-Identifier: MIT OR Apache-2.0
//! The filters of a subscription, checked when they come and run for each message.

use crate::ledger::bit;
use crate::provider::{Provider, TYPES};
use crate::tag;
use fltport_abi::filter::{Fault, FilterError, Program, Verdict};
use fltport_abi::limits::{MAX_FILTER, MAX_PREDICATES};
use fltport_nt::bindings::STATUS_INVALID_PARAMETER;
use fltport_nt::ex::{FastMutex, PoolArc, PoolBytes, PoolSlice};
use fltport_nt::linked::STATUS_INVALID_MESSAGE;
use fltport_nt::{NtError, Result, rtl};

/// NT's upper case of every UTF-16 unit: its own function may be asked at PASSIVE_LEVEL only.
pub(crate) struct UpperCase(PoolSlice<u16>);

impl UpperCase {
    /// IRQL: PASSIVE_LEVEL. The table, which all filters share; made when the first one needs it.
    pub(crate) fn shared(place: &FastMutex<Option<PoolArc<Self>>>) -> Result<PoolArc<Self>> {
        if let Some(table) = &*place.lock() {
            return Ok(table.clone());
        }
        // Made without the lock, which raises the IRQL. Two may make it; the first one's is kept.
        let mut units = PoolSlice::filled(tag::FILTER, usize::from(u16::MAX) + 1, 0)?;
        for (unit, place) in (0..=u16::MAX).zip(units.iter_mut()) {
            *place = rtl::upcase(unit);
        }
        let made = PoolArc::new(tag::FILTER, UpperCase(units))?;
        Ok(place.lock().get_or_insert(made).clone())
    }

    fn of(&self, unit: u16) -> u16 {
        self.0.get(usize::from(unit)).copied().unwrap_or(unit)
    }
}

/// The filters of one subscription.
pub(crate) struct Filters {
    bytes: PoolBytes,
    /// Where the filter of each message type begins; [`NONE`] for one without.
    places: [u16; TYPES],
    upper_case: Option<PoolArc<UpperCase>>,
}

const NONE: u16 = u16::MAX;
const _: () = assert!(MAX_FILTER < NONE as usize, "every place can be said");

impl Filters {
    /// IRQL: PASSIVE_LEVEL. Checks filters made for the provider's schema of this hash, and copies
    /// them; `None` for none.
    ///
    /// Errors: `STATUS_INVALID_MESSAGE` if they were made for another schema or name a field that
    /// it does not have, `STATUS_INVALID_PARAMETER` if they are no filters or too many.
    #[inline(never)]
    pub(crate) fn new(
        provider: &Provider,
        hash: u64,
        bytes: &[u8],
        upper_case: &FastMutex<Option<PoolArc<UpperCase>>>,
    ) -> Result<Option<PoolArc<Self>>> {
        if bytes.is_empty() {
            return Ok(None);
        }
        if bytes.len() > MAX_FILTER {
            return Err(NtError(STATUS_INVALID_PARAMETER));
        }
        if hash != provider.hash {
            return Err(NtError(STATUS_INVALID_MESSAGE));
        }
        let (places, ignores_case) = check(provider, bytes)?;
        let upper_case = match ignores_case {
            true => Some(UpperCase::shared(upper_case)?),
            false => None,
        };
        let filters = Filters {
            bytes: PoolBytes::copy_of(tag::FILTER, bytes)?,
            places,
            upper_case,
        };
        PoolArc::new(tag::FILTER, filters).map(Some)
    }

    /// IRQL: <= DISPATCH_LEVEL. What the filter of this message type says of a message, wanted if
    /// there is none; and in how many steps.
    pub(crate) fn judge(&self, message: u16, payload: &[u8], fixed: u16) -> (Verdict, u32) {
        let place = self.places.get(usize::from(message)).copied();
        let Some(program) = place
            .filter(|place| *place != NONE)
            .and_then(|place| self.bytes.get(usize::from(place)..))
            .and_then(|bytes| Program::split(bytes).ok())
        else {
            return (Verdict::Wanted, 0);
        };
        let (program, _) = program;
        // One call, so that the image has the code once. Without a table no case is ignored.
        let upcase = |unit| {
            self.upper_case
                .as_ref()
                .map_or(unit, |table| table.of(unit))
        };
        program.evaluate_counted(payload, fixed.into(), upcase)
    }
}

/// Where the filters begin, and whether one ignores case.
fn check(provider: &Provider, bytes: &[u8]) -> Result<([u16; TYPES], bool)> {
    let malformed = NtError(STATUS_INVALID_PARAMETER);
    let mut places = [NONE; TYPES];
    let (mut rest, mut predicates, mut ignores_case) = (bytes, 0, false);
    while !rest.is_empty() {
        let at = (bytes.len() - rest.len()) as u16;
        let (program, behind) = Program::split(rest).map_err(|_| malformed)?;
        rest = behind;
        let known = (provider.notifications | provider.requests) & bit(program.message) != 0;
        let place = places.get_mut(usize::from(program.message));
        match place.filter(|place| known && **place == NONE) {
            Some(place) => *place = at,
            None => return Err(malformed),
        }
        program
            .check(|kind, offset, marked| provider.has_field(program.message, kind, offset, marked))
            .map_err(|error| match error {
                FilterError {
                    fault: Fault::NoField,
                    ..
                } => NtError(STATUS_INVALID_MESSAGE),
                _ => malformed,
            })?;
        predicates += program.predicates();
        if predicates > MAX_PREDICATES {
            return Err(malformed);
        }
        ignores_case |= program.ignores_case();
    }
    Ok((places, ignores_case))
}
