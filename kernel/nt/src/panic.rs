// SPDX-License-Identifier: MIT OR Apache-2.0
//! What happens if kernel code panics: the machine stops, with a bugcheck that names us. No code
//! path is meant to get here.

#[cfg(all(windows, not(test)))]
#[panic_handler]
fn panic(_info: &core::panic::PanicInfo<'_>) -> ! {
    /// `MANUALLY_INITIATED_CRASH1`, with "FltP" as the first parameter.
    const CODE: u32 = 0xDEAD_DEAD;
    loop {
        // SAFETY: KeBugCheckEx may be called at any IRQL with any parameters; it does not return.
        unsafe { crate::bindings::KeBugCheckEx(CODE, 0x5074_6c46, 0, 0, 0) };
    }
}
