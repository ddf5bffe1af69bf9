/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * The annotations of Microsoft's source code analysis, which say nothing to gcc and clang. The
 * hosted kernel checks at run time what those about IRQL and locks promise.
 */
#ifndef NT_HOST_SAL_H
#define NT_HOST_SAL_H

/* Parameters. */
#define IN
#define OUT
#define OPTIONAL
#define _In_
#define _In_opt_
#define _In_z_
#define _In_opt_z_
#define _In_reads_(n)
#define _In_reads_opt_(n)
#define _In_reads_bytes_(n)
#define _In_reads_bytes_opt_(n)
#define _Inout_
#define _Inout_opt_
#define _Inout_updates_(n)
#define _Inout_updates_bytes_(n)
#define _Out_
#define _Out_opt_
#define _Out_writes_(n)
#define _Out_writes_opt_(n)
#define _Out_writes_z_(n)
#define _Out_writes_bytes_(n)
#define _Out_writes_bytes_opt_(n)
#define _Out_writes_bytes_to_(n, c)
#define _Out_writes_bytes_to_opt_(n, c)
#define _Out_writes_to_(n, c)
#define _Outptr_
#define _Outptr_opt_
#define _Outptr_result_maybenull_
#define _Outptr_result_bytebuffer_(n)
#define _COM_Outptr_
#define _Reserved_
#define _Null_
#define _Notnull_
#define _Maybenull_
#define _Const_
#define _Deref_out_range_(low, high)
#define _Field_size_(n)
#define _Field_size_bytes_(n)
#define _Struct_size_bytes_(n)
#define _Printf_format_string_
#define _NullTerminated_
#define _Strict_type_match_
#define _Points_to_data_
/* The older form; the C++ library has arguments of these names. */
#if !defined(__cplusplus)
#define __in
#define __in_opt
#define __in_bcount(n)
#define __out
#define __out_opt
#define __out_bcount(n)
#define __inout
#define __inout_opt
#endif

/* Results and conditions. */
#define _Ret_maybenull_
#define _Ret_notnull_
#define _Return_type_success_(condition)
#define _Success_(condition)
#define _Must_inspect_result_
#define _Check_return_
#define _When_(condition, annotations)
#define _At_(target, annotations)
#define _On_failure_(annotations)
#define _Always_(annotations)
#define _Pre_satisfies_(condition)
#define _Post_satisfies_(condition)
#define _Pre_valid_
#define _Post_invalid_
#define _Pre_notnull_
#define _Post_writable_byte_size_(n)
#define _Analysis_assume_(condition) ((void)0)
#define __analysis_assume(condition) ((void)0)
#define _Analysis_noreturn_
#define _Use_decl_annotations_
#define _Function_class_(name)
#define _Kernel_entry_
#define _Dispatch_type_(function)

/* IRQL and locks. */
#define _IRQL_requires_(level)
#define _IRQL_requires_max_(level)
#define _IRQL_requires_min_(level)
#define _IRQL_requires_same_
#define _IRQL_raises_(level)
#define _IRQL_saves_
#define _IRQL_restores_
#define _IRQL_saves_global_(kind, parameter)
#define _IRQL_restores_global_(kind, parameter)
#define _IRQL_is_cancel_
#define _Acquires_lock_(lock)
#define _Releases_lock_(lock)
#define _Requires_lock_held_(lock)
#define _Requires_lock_not_held_(lock)
#define _Acquires_exclusive_lock_(lock)
#define _Releases_exclusive_lock_(lock)
#define _Acquires_shared_lock_(lock)
#define _Releases_shared_lock_(lock)
#define _Guarded_by_(lock)
#define _Interlocked_operand_
#define _Interlocked_
#define __drv_allocatesMem(kind)
#define __drv_freesMem(kind)
#define __drv_aliasesMem
#define __drv_maxIRQL(level)
#define __drv_requiresIRQL(level)
#define __drv_sameIRQL

#endif
