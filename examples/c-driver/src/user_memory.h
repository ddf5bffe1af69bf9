/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* The one place that knows how user memory is read: with __try on Windows, by the kernel here. */
#pragma once

static inline NTSTATUS CopyFromUser(PVOID To, const VOID *User, SIZE_T Length)
{
#ifdef NT_HOST
    return fltport_copy_from_user(To, (ULONG_PTR)User, Length);
#else
    __try {
        ProbeForRead((PVOID)User, Length, 1);
        RtlCopyMemory(To, User, Length);
    } __except (EXCEPTION_EXECUTE_HANDLER) {
        return GetExceptionCode();
    }
    return STATUS_SUCCESS;
#endif
}
