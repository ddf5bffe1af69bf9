/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * NT's basic types, for drivers that are compiled for the hosted kernel (nt-host) on Linux.
 *
 * Written from Microsoft's public documentation, for x64 and for C11 or C++11 with gcc or clang:
 *
 *     cc -fshort-wchar -I testbed/host/include -c driver.c
 *
 * -fshort-wchar makes wchar_t, and so L"..." and WCHAR, 16 bits wide, as they are on Windows. The
 * calling convention is the native one. NT_HOST is defined here and nowhere else: a driver that has
 * to know uses #ifdef NT_HOST.
 *
 * With mingw's gcc they do for a driver that a real NT loader loads (testbed/wine/README.md); then
 * NT_HOST is not defined.
 */
#ifndef NT_HOST_NTDEF_H
#define NT_HOST_NTDEF_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "sal.h"

#if defined(_WIN32)
/* What mingw's gcc defines as well. */
#undef __stdcall
#undef __cdecl
#undef __fastcall
#undef __declspec
#undef __forceinline
#else
#define NT_HOST 1
#endif

#if defined(__cplusplus)
#define NT_HOST_BEGIN extern "C" {
#define NT_HOST_END }
#define NT_HOST_ASSERT(condition, text) static_assert(condition, text)
#else
#define NT_HOST_BEGIN
#define NT_HOST_END
#define NT_HOST_ASSERT(condition, text) _Static_assert(condition, text)
#endif

NT_HOST_ASSERT(sizeof(wchar_t) == 2, "compile with -fshort-wchar: WCHAR has 16 bits on Windows");
NT_HOST_ASSERT(sizeof(void *) == 8, "the hosted kernel is a 64-bit kernel");

/* Calling conventions and linkage, which have no meaning here. */
#define NTAPI
#define NTKERNELAPI
#define NTSYSAPI
#define NTHALAPI
#define FLTAPI
#define FASTCALL
#define __stdcall
#define __cdecl
#define __fastcall
#define DECLSPEC_IMPORT
#define DECLSPEC_NORETURN __attribute__((noreturn))
#define DECLSPEC_ALIGN(n) __attribute__((aligned(n)))
/* __declspec(code_seg("PAGE")), __declspec(align(16)), __declspec(noinline) and their like. */
#define __declspec(attribute) NT_HOST_DECLSPEC_##attribute
#define NT_HOST_DECLSPEC_code_seg(name) __attribute__((section(name)))
#define NT_HOST_DECLSPEC_align(n) __attribute__((aligned(n)))
#define NT_HOST_DECLSPEC_noinline __attribute__((noinline))
#define NT_HOST_DECLSPEC_noreturn __attribute__((noreturn))
#define NT_HOST_DECLSPEC_deprecated __attribute__((deprecated))
#define NT_HOST_DECLSPEC_selectany __attribute__((weak))
#define NT_HOST_DECLSPEC_dllexport
#define NT_HOST_DECLSPEC_dllimport
#define DECLSPEC_NOINLINE __attribute__((noinline))
/* Without static, which drivers write in front of it or leave out. */
#define FORCEINLINE inline __attribute__((always_inline, unused))
#define __forceinline FORCEINLINE
#define CONST const
#define CFORCEINLINE FORCEINLINE
#define EXTERN_C_START NT_HOST_BEGIN
#define EXTERN_C_END NT_HOST_END
#if defined(__cplusplus)
#define EXTERN_C extern "C"
#else
#define EXTERN_C extern
#endif

/* Integers: LONG has 32 bits on Windows, whatever long has here. */
typedef void VOID;
typedef void *PVOID;
typedef char CHAR, *PCHAR;
typedef char CCHAR;
typedef unsigned char UCHAR, *PUCHAR;
typedef int16_t SHORT, *PSHORT, CSHORT;
typedef uint16_t USHORT, *PUSHORT;
typedef int32_t LONG, *PLONG;
typedef uint32_t ULONG, *PULONG;
typedef int64_t LONGLONG, *PLONGLONG;
typedef uint64_t ULONGLONG, *PULONGLONG;
typedef int INT;
typedef unsigned int UINT;
typedef int8_t INT8;
typedef uint8_t UINT8;
typedef int16_t INT16;
typedef uint16_t UINT16;
typedef int32_t INT32, LONG32;
typedef uint32_t UINT32, ULONG32;
typedef int64_t INT64, LONG64, *PLONG64;
typedef uint64_t UINT64, ULONG64, *PULONG64, DWORD64;
typedef intptr_t INT_PTR, LONG_PTR, SSIZE_T;
typedef uintptr_t UINT_PTR, ULONG_PTR, SIZE_T, *PULONG_PTR, *PSIZE_T;
typedef uint8_t BYTE;
typedef uint16_t WORD;
typedef uint32_t DWORD;
typedef uint64_t QUAD;
#define __int64 long long

/* A BOOLEAN must be TRUE or FALSE when it is given to the kernel. */
typedef UCHAR BOOLEAN, *PBOOLEAN;
#define TRUE 1
#define FALSE 0

typedef wchar_t WCHAR, *PWCHAR, *PWSTR, *LPWSTR;
typedef const wchar_t *PCWSTR, *PCWCH, *LPCWSTR;
typedef char *PSTR;
typedef const char *PCSTR, *PCCH, *PCSZ;

typedef PVOID HANDLE, *PHANDLE;
typedef LONG NTSTATUS, *PNTSTATUS;
typedef LONG KPRIORITY;
typedef UCHAR KIRQL, *PKIRQL;
typedef CCHAR KPROCESSOR_MODE;
typedef ULONG ACCESS_MASK, *PACCESS_MASK;
typedef ULONG LOGICAL;

typedef union _LARGE_INTEGER {
    __extension__ struct {
        ULONG LowPart;
        LONG HighPart;
    };
    struct {
        ULONG LowPart;
        LONG HighPart;
    } u;
    LONGLONG QuadPart;
} LARGE_INTEGER, *PLARGE_INTEGER;

typedef union _ULARGE_INTEGER {
    __extension__ struct {
        ULONG LowPart;
        ULONG HighPart;
    };
    struct {
        ULONG LowPart;
        ULONG HighPart;
    } u;
    ULONGLONG QuadPart;
} ULARGE_INTEGER, *PULARGE_INTEGER;

typedef struct _LUID {
    ULONG LowPart;
    LONG HighPart;
} LUID, *PLUID;

typedef struct _LIST_ENTRY {
    struct _LIST_ENTRY *Flink;
    struct _LIST_ENTRY *Blink;
} LIST_ENTRY, *PLIST_ENTRY;

typedef struct _SINGLE_LIST_ENTRY {
    struct _SINGLE_LIST_ENTRY *Next;
} SINGLE_LIST_ENTRY, *PSINGLE_LIST_ENTRY;

/* Length and MaximumLength count bytes; Buffer need not end with a zero. */
typedef struct _UNICODE_STRING {
    USHORT Length;
    USHORT MaximumLength;
    PWSTR Buffer;
} UNICODE_STRING, *PUNICODE_STRING;
typedef const UNICODE_STRING *PCUNICODE_STRING;

typedef struct _STRING {
    USHORT Length;
    USHORT MaximumLength;
    PCHAR Buffer;
} STRING, *PSTRING, ANSI_STRING, *PANSI_STRING;

typedef struct _OBJECT_ATTRIBUTES {
    ULONG Length;
    HANDLE RootDirectory;
    PUNICODE_STRING ObjectName;
    ULONG Attributes;
    PVOID SecurityDescriptor;
    PVOID SecurityQualityOfService;
} OBJECT_ATTRIBUTES, *POBJECT_ATTRIBUTES;
typedef const OBJECT_ATTRIBUTES *PCOBJECT_ATTRIBUTES;

#define OBJ_PERMANENT 0x00000010L
#define OBJ_CASE_INSENSITIVE 0x00000040L
#define OBJ_OPENIF 0x00000080L
#define OBJ_KERNEL_HANDLE 0x00000200L
#define OBJ_DONT_REPARSE 0x00001000L

#define InitializeObjectAttributes(attributes, name, flags, root, descriptor) \
    do { \
        (attributes)->Length = sizeof(OBJECT_ATTRIBUTES); \
        (attributes)->RootDirectory = (root); \
        (attributes)->ObjectName = (name); \
        (attributes)->Attributes = (flags); \
        (attributes)->SecurityDescriptor = (descriptor); \
        (attributes)->SecurityQualityOfService = NULL; \
    } while (0)

/* A string of a literal or an array; its terminating zero is room, not length. In C also an
   ANSI_STRING of a narrow literal. */
#if defined(__cplusplus)
#define NT_HOST_STRING_BUFFER PWSTR
#else
#define NT_HOST_STRING_BUFFER void *
#endif
#define RTL_CONSTANT_STRING(text) \
    { sizeof(text) - sizeof((text)[0]), sizeof(text), (NT_HOST_STRING_BUFFER)(text) }
#define DECLARE_CONST_UNICODE_STRING(name, text) \
    const UNICODE_STRING name = RTL_CONSTANT_STRING(text)

/* Success and information pass NT_SUCCESS: STATUS_TIMEOUT does, too. */
#define NT_SUCCESS(status) ((NTSTATUS)(status) >= 0)
#define NT_INFORMATION(status) (((ULONG)(status) >> 30) == 1)
#define NT_WARNING(status) (((ULONG)(status) >> 30) == 2)
#define NT_ERROR(status) (((ULONG)(status) >> 30) == 3)

#define UNREFERENCED_PARAMETER(parameter) ((void)(parameter))
#define DBG_UNREFERENCED_PARAMETER(parameter) ((void)(parameter))
#define UNREFERENCED_LOCAL_VARIABLE(variable) ((void)(variable))
#define CONTAINING_RECORD(address, type, field) \
    ((type *)((PUCHAR)(address) - offsetof(type, field)))
#define FIELD_OFFSET(type, field) ((LONG)offsetof(type, field))
#define FIELD_SIZE(type, field) sizeof(((type *)0)->field)
#define RTL_FIELD_SIZE(type, field) FIELD_SIZE(type, field)
#define RTL_SIZEOF_THROUGH_FIELD(type, field) (offsetof(type, field) + FIELD_SIZE(type, field))
#define RTL_NUMBER_OF(array) (sizeof(array) / sizeof((array)[0]))
#define ARRAYSIZE(array) RTL_NUMBER_OF(array)
#define C_ASSERT(condition) NT_HOST_ASSERT(condition, #condition)
#define Add2Ptr(pointer, bytes) ((PVOID)((PUCHAR)(pointer) + (bytes)))
#define PtrToUlong(pointer) ((ULONG)(ULONG_PTR)(pointer))
#define HandleToULong(handle) ((ULONG)(ULONG_PTR)(handle))
#define HandleToUlong(handle) ((ULONG)(ULONG_PTR)(handle))
#define ULongToHandle(number) ((HANDLE)(ULONG_PTR)(number))
#define UlongToHandle(number) ((HANDLE)(ULONG_PTR)(number))
#define MAXULONG 0xffffffff
#define MAXUSHORT 0xffff
#define MAXLONG 0x7fffffff
#define ANYSIZE_ARRAY 1
#define UNICODE_NULL ((WCHAR)0)
#if !defined(__cplusplus)
#define min(a, b) (((a) < (b)) ? (a) : (b))
#define max(a, b) (((a) > (b)) ? (a) : (b))
#endif

#define RtlCopyMemory(to, from, length) memcpy((to), (from), (length))
#define RtlMoveMemory(to, from, length) memmove((to), (from), (length))
#define RtlZeroMemory(to, length) memset((to), 0, (length))
#define RtlFillMemory(to, length, byte) memset((to), (byte), (length))
#define RtlEqualMemory(one, other, length) (!memcmp((one), (other), (length)))

#include "ntstatus.h"

#endif
