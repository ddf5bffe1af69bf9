// SPDX-License-Identifier: MIT OR Apache-2.0
//! Where the calling thread's stack ends. Between the stack pointer and that end everything is the
//! thread's own and stays mapped, so a walk may read it.

use std::mem::MaybeUninit;
use std::ops::Range;

use crate::thread;

/// The bounds of one thread's stack. Its context keeps them, and is gone with the stack.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    low: usize,
    end: usize,
}

impl Bounds {
    /// Those of a stack of `size` bytes at most in which `local` lies in the outermost frame that
    /// is worth a walk.
    pub(crate) fn below<T>(local: &T, size: usize) -> Bounds {
        let end = std::ptr::from_ref(local) as usize;
        Bounds {
            low: end.saturating_sub(size),
            end,
        }
    }

    /// What nothing lies in.
    const NONE: Bounds = Bounds { low: 0, end: 0 };

    /// Those of the stack that the host system gave the calling thread.
    fn of_host_thread() -> Bounds {
        let mut attributes = MaybeUninit::uninit();
        let place = attributes.as_mut_ptr();
        // SAFETY: has no preconditions.
        let own = unsafe { libc::pthread_self() };
        // SAFETY: the calling thread, and room for its attributes.
        if unsafe { libc::pthread_getattr_np(own, place) } != 0 {
            return Bounds::NONE;
        }
        let (mut low, mut size) = (std::ptr::null_mut(), 0);
        // SAFETY: filled above; both results outlive the call.
        let result = unsafe { libc::pthread_attr_getstack(place, &raw mut low, &raw mut size) };
        // SAFETY: filled above, and not used afterwards.
        unsafe { libc::pthread_attr_destroy(place) };
        match result {
            0 => Bounds {
                low: low as usize,
                end: low as usize + size,
            },
            _ => Bounds::NONE,
        }
    }

    fn range(self) -> Range<usize> {
        self.low..self.end
    }
}

/// The stack that a stack pointer of the calling thread points into. None on a stack that is not
/// the thread's own one, and where the thread is about to end.
pub(crate) fn around(pointer: usize) -> Option<Range<usize>> {
    let bounds = thread::try_with_context(|context| {
        context.stack.get().unwrap_or_else(|| {
            let bounds = Bounds::of_host_thread();
            context.stack.set(Some(bounds));
            bounds
        })
    })?;
    Some(bounds.range()).filter(|stack| stack.contains(&pointer))
}
