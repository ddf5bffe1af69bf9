/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* How the service's memory is read and written. It may be gone or read-only at any moment. */
#pragma once

#ifdef NT_HOST
#define CopyFromUser(to, user, length) fltport_copy_from_user((to), (ULONG_PTR)(user), (length))
#define CopyToUser(user, from, length) fltport_copy_to_user((ULONG_PTR)(user), (from), (length))
#else

#ifdef __GNUC__
/* gcc has no __try. Good enough for Wine, where the driver is handed copies; do not ship it. */
#define TRY if (1)
#define CATCH else
#else
#define TRY __try
#define CATCH __except (EXCEPTION_EXECUTE_HANDLER)
#endif

static inline NTSTATUS CopyFromUser(PVOID To, const VOID *User, SIZE_T Length) {
    TRY {
        RtlCopyMemory(To, User, Length);
        return STATUS_SUCCESS;
    } CATCH {
        return STATUS_ACCESS_VIOLATION;
    }
}

static inline NTSTATUS CopyToUser(PVOID User, const VOID *From, SIZE_T Length) {
    TRY {
        RtlCopyMemory(User, From, Length);
        return STATUS_SUCCESS;
    } CATCH {
        return STATUS_ACCESS_VIOLATION;
    }
}
#endif
