/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Microsoft's suppressions of warnings of its own compiler. */
#include "sal.h"
