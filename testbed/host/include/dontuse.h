/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Microsoft's list of functions that drivers should not use; none of them is here. */
#include "sal.h"
